"""What a reader changes and runs again: right, refused by name, or warned about; never plausible and wrong."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vaelib import _devices, data, evaluation
from vaelib.cvae import CVAE
from vaelib.data import ImageData
from vaelib.likelihoods import Gaussian
from vaelib.training import TrainingError, choose_device, fit
from vaelib.vae import VAE


def images(n: int = 200, dim: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.sigmoid(torch.randn(n, 2, generator=generator) @ torch.randn(2, dim, generator=generator))


def train(model: nn.Module, x: Tensor | None = None, **options):
    return fit(model, images() if x is None else x, **{"epochs": 2, "device": "cpu", "progress": False} | options)


TRANSFORMS = {
    "standardised": (
        lambda x, g: (x - 0.13) / 0.31,
        ValueError,
        "transform returned what the model can't take: pixels reach",
    ),
    "noise": (lambda x, g: x + torch.randn(x.shape, generator=g), ValueError, "can't take: pixels reach"),
    "NaN": (lambda x, g: x * math.nan, ValueError, r"can't take: pixel \(0, 0\) is nan"),
    "another shape": (lambda x, g: x[:, :8], ValueError, r"returned shape \(128, 8\) for images \(128, 16\)"),
    "fewer images": (lambda x, g: x[:-1], ValueError, r"returned shape \(127, 16\)"),
    "whole numbers": (
        lambda x, g: (255 * x).to(torch.uint8),
        ValueError,
        "returned torch.uint8 for",
    ),
    "an array": (lambda x, g: x.numpy(), TypeError, "transform returned a ndarray"),
    "nothing": (lambda x, g: None, TypeError, "transform returned a NoneType"),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_a_transform_returns_is_checked_and_the_model_left_as_it_was(name):  # FAULTS 62
    transform, error, message = TRANSFORMS[name]
    vae = VAE(16, (8,), 2)
    before = {key: value.clone() for key, value in vae.state_dict().items()}
    with pytest.raises(error, match=message):
        train(vae, transform=transform)
    assert all(torch.equal(value, before[key]) for key, value in vae.state_dict().items())


def test_a_gaussian_model_takes_standardised_pixels_from_a_transform():
    assert train(VAE(16, (8,), 2, likelihood="gaussian"), transform=TRANSFORMS["standardised"][0]).epochs == 2


def test_an_objective_that_fails_in_the_first_step_leaves_the_model_as_it_was():
    vae = VAE(16, (8,), 2)
    before = {key: value.clone() for key, value in vae.state_dict().items()}
    for objective in (lambda m, x, y, step, g: m.elbo(x).elbo.mean(), lambda m, x, y, step, g: None, lambda m: 1 / 0):
        with pytest.raises((ValueError, TypeError)):
            train(vae, objective=objective)
    assert all(torch.equal(value, before[key]) for key, value in vae.state_dict().items())


def test_y_given_and_validation_without_conditions_is_refused():  # FAULTS 63
    x, classes = images().view(200, 4, 4), torch.arange(200) % 3
    held_out = ImageData("own", images(30, seed=1).view(30, 4, 4), torch.arange(30) % 3)
    parity = classes % 2
    for validation in (held_out, held_out.images):
        with pytest.raises(
            ValueError, match=r"validation needs conditions of its own: validation=\(images, conditions"
        ):
            train(CVAE(16, 3, (8,), 2), x, y=parity, validation=validation)
    history = train(CVAE(16, 3, (8,), 2), x, y=parity, validation=(held_out.images, held_out.labels % 2))
    assert len(history.validation_elbo) == 2


def test_a_loss_given_as_an_objective_is_said_while_it_runs():  # FAULTS 71
    with pytest.warns(UserWarning, match="fit maximises it: if it is a loss, return its negative"):
        train(
            VAE(16, (8,), 2), epochs=30, learning_rate=0.05, batch_size=16,
            objective=lambda m, x, y, step, g: -m.elbo(x, generator=g).elbo,
        )  # fmt: skip


def test_obeying_that_warning_gives_a_run_without_one(recwarn):
    train(VAE(16, (8,), 2), epochs=30, learning_rate=0.05, objective=lambda m, x, y, step, g: m.elbo(x).elbo)
    assert not recwarn.list


def test_a_rate_a_thousand_times_too_high_is_said_while_it_runs():  # FAULTS 71
    with pytest.warns(UserWarning, match="where it should grow: a smaller learning_rate than 3 is the usual remedy"):
        try:
            train(VAE(16, (8,), 2), epochs=20, learning_rate=3.0, batch_size=16)
        except TrainingError:
            pytest.fail("it ended before anything was said")


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", Gaussian(0.05)])
@pytest.mark.parametrize("rate", [1e-5, 3e-3, 3e-2])
def test_an_ordinary_run_is_not_warned_about(likelihood, rate, recwarn):
    train(VAE(16, (8,), 2, likelihood=likelihood), epochs=10, learning_rate=rate, validation=images(40))
    assert not recwarn.list


def test_validation_that_is_no_number_at_first_does_not_hide_the_best_epoch():
    calls = []

    class Odd(VAE):
        def elbo(self, x, y=None, **options):
            terms = super().elbo(x, y, **options)
            calls.append(self.training)
            first = not self.training and calls.count(False) == 1
            return type(terms)(terms.log_likelihood * (math.nan if first else 1), terms.kl)

    history = train(Odd(16, (8,), 2), epochs=4, validation=images(40))
    assert math.isnan(history.validation_elbo[0])
    assert history.best_epoch == 1 + int(np.nanargmax(history.validation_elbo)) and history.best_weights is not None


def frozen() -> VAE:
    return VAE(16, (8,), 2).requires_grad_(False)


class Empty(nn.Module):
    def elbo(self, x, y=None):
        return x.sum(1)


def test_a_model_that_can_t_be_trained_is_told_why_and_what_helps():
    with pytest.raises(ValueError, match=r"all are frozen, call model.requires_grad_\(True\)"):
        train(frozen())
    with pytest.raises(ValueError, match="no parameter of this Empty can be trained: it has none"):
        train(Empty())
    for half in (VAE(16, (8,), 2).half(), VAE(16, (8,), 2).bfloat16()):
        with pytest.raises(ValueError, match=r"call model.float\(\)"):
            train(half)
        assert train(half.float()).epochs == 2
    assert train(frozen().requires_grad_(True)).epochs == 2


def test_a_frozen_decoder_does_not_move():
    vae = VAE(16, (8,), 2)
    vae.decoder.requires_grad_(False)
    before = [parameter.clone() for parameter in vae.decoder.parameters()]
    train(vae)
    assert all(torch.equal(a, b) for a, b in zip(before, vae.decoder.parameters(), strict=True))


def test_training_works_where_gradients_are_switched_off():
    expected = VAE(16, (8,), 2)
    train(expected)
    for switched_off in (torch.no_grad(), torch.inference_mode()):
        vae = VAE(16, (8,), 2)
        x = images()
        with switched_off:
            train(vae, x)
        assert all(torch.equal(a, b) for a, b in zip(expected.parameters(), vae.parameters(), strict=True))


def test_big_endian_arrays_are_read_by_their_values():
    x = images().numpy()
    first, second = VAE(16, (8,), 2), VAE(16, (8,), 2)
    assert train(first, x).elbo == train(second, x.astype(">f4")).elbo


def test_a_default_device_changes_nothing():
    """The meta device stands for one that a reader has made the default; what is on it has no values at all."""
    digits = data.load("digits").subset(60)
    expected = [part.images for part in data.train_validation_split(digits, 20)]
    reference = VAE(64, (8,), 2, likelihood="gaussian", sigma="learned")
    train(reference, digits)
    before = torch.get_default_device()
    torch.set_default_device("meta")
    try:
        split = [part.images for part in data.train_validation_split(digits, 20)]
        vae = VAE(64, (8,), 2, likelihood="gaussian", sigma="learned")
        train(vae, digits)
        elbo = evaluation.mean_elbo(vae, digits)
        evidence = evaluation.log_evidence(vae, digits.subset(3), 5)
        sample = vae.sample(2, torch.Generator("cpu").manual_seed(0))
    finally:
        torch.set_default_device(before)
    assert all(torch.equal(a, b) for a, b in zip(expected, split, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), vae.parameters(), strict=True))
    assert math.isfinite(elbo) and evidence.device.type == sample.device.type == "cpu"


@pytest.fixture
def one_gpu(monkeypatch):
    """A machine with one GPU of compute capability 6.1, as PyTorch reports it, and a build for what a test says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index=None: (6, 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=None: "Old GPU")
    return lambda *archs: monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(archs))


def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(one_gpu):  # FAULTS 69
    one_gpu("sm_60", "sm_90")
    with pytest.raises(ValueError, match="there is no cuda:7: this machine has 1 CUDA device, cuda:0"):
        choose_device("cuda:7")
    assert choose_device("cuda:0") == torch.device("cuda:0") and choose_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("archs", [("sm_75", "sm_90"), ("sm_90a", "compute_90")])
def test_a_gpu_that_the_build_has_no_code_for_is_not_used(one_gpu, archs):  # FAULTS 69
    one_gpu(*archs)
    with pytest.raises(ValueError, match=r"Old GPU \(sm_61\) is not among the GPUs.*Use device='cpu'"):
        choose_device("cuda")
    with pytest.warns(UserWarning, match="Computing on the CPU"):
        assert choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("archs", [(), ("sm_50", "compute_50"), ("sm_61",), ("sm_60",), ("compute_61",)])
def test_a_gpu_that_the_build_has_code_for_is_used(one_gpu, archs):
    one_gpu(*archs)
    assert choose_device("auto") == torch.device("cuda") == choose_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "tpu:x", "", "cuda:one", 3.5, None])
def test_an_unknown_device_is_refused_with_those_there_are(name):  # FAULTS 69
    with pytest.raises(ValueError, match="choose 'auto', 'cpu', 'cuda', 'cuda:0' or 'mps'"):
        choose_device(name)
    assert _devices.choose_device("cpu").type == "cpu"


def test_nothing_asks_an_apple_gpu_for_float64(monkeypatch):  # FAULTS 69
    """MPS knows no float64: every conversion to it is refused where a tensor is on the device that stands for MPS."""
    vae, x = VAE(16, (8,), 2), images(50)
    original = Tensor.double

    def refusing(tensor):
        if tensor.device.type != "cpu":
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return original(tensor)

    monkeypatch.setattr(Tensor, "double", refusing)
    assert math.isfinite(evaluation.mean_elbo(vae, x))


DIGITS = data.load("digits").images
# What a reader gives, the words of the message, and what obeying it makes of the pixels.
SCALES = {
    "bytes": (
        (255 * DIGITS).round().to(torch.uint8),
        "convert them to float and divide by 255",
        lambda x: x.float() / 255,
    ),
    "digits to 16": ((16 * DIGITS).round(), "a pixel is 16, beyond 1: divide by 16", lambda x: x / 16),
    "whole digits": ((16 * DIGITS).to(torch.int64), "convert them to float and divide by 16", lambda x: x.float() / 16),
    "floats to 255": ((255 * DIGITS).round(), "a pixel is 255, beyond 1: divide by 255", lambda x: x / 255),
    "16 bit": ((65535 * DIGITS).round().to(torch.int32), "divide by 65535", lambda x: x.float() / 65535),
    "zeros and ones": ((DIGITS > 0.5).to(torch.int64), r"leave them as they are: x.float\(\)", lambda x: x.float()),
    "minus one to one": (2 * DIGITS - 1, r"for \[-1, 1\] use \(x \+ 1\) / 2", lambda x: (x + 1) / 2),
    "standardised": ((DIGITS - 0.3) / 0.37, r"for standardised pixels x \* std \+ mean", lambda x: x * 0.37 + 0.3),
}


@pytest.mark.parametrize("name", SCALES)
def test_the_remedy_for_pixels_of_another_scale_fits_the_case_and_leads_to_the_right_bound(name):  # FAULTS 70
    x, message, obey = SCALES[name]
    vae = VAE(64, (8,), 2)
    for door in (vae.elbo, lambda x: evaluation.mean_elbo(vae, x), lambda x: train(vae, x)):
        with pytest.raises(ValueError, match=message):
            door(x)
    right = DIGITS if name != "zeros and ones" else (DIGITS > 0.5).float()
    # Sixteen grey levels are stored as multiples of 1/255 in one of the cases.
    torch.testing.assert_close(obey(x).float(), right, rtol=0, atol=0.003)
    obeyed = evaluation.mean_elbo(vae, obey(x).clamp(0, 1))
    assert obeyed == pytest.approx(evaluation.mean_elbo(vae, right), rel=1e-2)


def test_pixels_divided_twice_are_warned_about_and_the_remedy_helps(recwarn):  # FAULTS 70
    with pytest.warns(UserWarning, match="divided by 255 twice, multiply by 255"):
        train(VAE(64, (8,), 2), DIGITS / 255)
    recwarn.clear()
    train(VAE(64, (8,), 2), (DIGITS / 255 * 255).clamp(0, 1))
    assert not recwarn.list
