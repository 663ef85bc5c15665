"""What a reader changes and runs again: right, refused by name, or warned about; never plausible and wrong."""

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vaelib import _devices, _run, data, evaluation, latent
from vaelib._guards import CheckedTransform
from vaelib._objectives import about_a_negative_kl
from vaelib._pixels import check_unit_interval
from vaelib.contract import ElboTerms
from vaelib.cvae import CVAE
from vaelib.data import ImageData
from vaelib.likelihoods import DiscretisedLogistic, Gaussian
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


@pytest.mark.parametrize(
    ("first", "later", "said"),
    [
        (100.0, 300.0, None),
        (100.0, 1200.0, "fit maximises it"),
        (-25.0, -60.0, None),
        (-25.0, -100.0, None),
        (-25.0, -120.0, "where it should grow"),
    ],
)
def test_an_objective_runs_off_where_it_goes_ten_times_up_or_four_times_down(first, later, said, recwarn):
    """10 first + 10 upwards, and 3 first + 10 below the first step downwards: a little less is an ordinary run."""

    def scripted(model, x, y, step, generator):
        nothing = sum(0 * parameter.sum() for parameter in model.parameters())
        return torch.full((len(x),), later if step else first) + nothing

    train(VAE(16, (8,), 2, likelihood="gaussian"), objective=scripted)
    assert [str(each.message) for each in recwarn.list if said is None] == []
    assert said is None or any(said in str(each.message) for each in recwarn.list)


@pytest.mark.parametrize(("value", "warned"), [(0.5, True), (-0.5, False)])
def test_a_mean_log_probability_is_said_to_be_wrong_from_0_on(value, warned, recwarn):
    class Constant(VAE):
        def elbo(self, x, y=None, **options):
            terms = super().elbo(x, y, **options)
            return ElboTerms(0 * terms.log_likelihood + value, terms.kl)

    train(Constant(16, (8,), 2))
    assert any("is never above 0" in str(each.message) for each in recwarn.list) == warned


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


class Later:
    """A transform that does what it is given from the third batch on."""

    def __init__(self, change) -> None:
        self.change, self.calls = change, 0

    def __call__(self, x, generator):
        self.calls += 1
        return x if self.calls < 3 else self.change(x, generator)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_that_goes_wrong_later_is_refused_too(name):  # FAULTS 62
    change, error, message = TRANSFORMS[name]
    message = message.replace("128", "32").replace("127", "31")
    with pytest.raises(error, match=message):
        train(VAE(16, (8,), 2), transform=Later(change), batch_size=32)


def test_a_transform_whose_pixels_are_no_number_later_is_named_in_a_gaussian_model_too():
    with pytest.raises(ValueError, match=r"transform returned what the model can't take: pixel \(0, 0\) is nan"):
        train(VAE(16, (8,), 2, likelihood="gaussian"), transform=Later(TRANSFORMS["NaN"][0]), batch_size=32)


class Elsewhere(Tensor):
    """A tensor that says it is on a GPU."""

    device = property(lambda self: torch.device("cuda"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(lambda x: x * math.nan, "is nan"), (lambda x: x - 1, "for .-1, 1. use"), (lambda x: x * 255, "divide by 255")],
)
def test_on_an_accelerator_the_pixels_of_later_batches_are_checked_at_the_end_of_the_epoch(wrong, message):
    model, x = SimpleNamespace(check=check_unit_interval), (images() > 0.5).float().as_subclass(Elsewhere)
    first = CheckedTransform(lambda x, g: wrong(x), model, None)
    with pytest.raises(ValueError, match=message):
        first(x, torch.Generator())
    batches = iter([x, wrong(x), 0.5 * x])
    transform = CheckedTransform(lambda x, g: next(batches), model, None)
    for _ in range(3):
        transform(x, torch.Generator())
    with pytest.raises(ValueError, match=f"transform returned what the model can't take: .*{message}"):
        transform.settle(x)
    batches = iter([x, 0.5 * x, x])
    honest = CheckedTransform(lambda x, g: next(batches), model, None)
    for _ in range(3):
        honest(x, torch.Generator())
    honest.settle(x)
    assert honest.range is None


def heads(n: int, frozen: bool = False) -> VAE:
    vae = VAE(16, (8,), 2)
    vae.heads = nn.ModuleList(nn.Linear(2, 2, bias=False).requires_grad_(not frozen) for _ in range(n))
    return vae


class Detached(VAE):
    def _decoded(self, z, y):
        return super()._decoded(z.detach(), y)


def test_parameters_that_no_gradient_reaches_are_said_once_and_by_name():
    with pytest.warns(UserWarning, match="no gradient reached heads.0.weight in a whole epoch") as caught:
        train(heads(1), epochs=3)
    assert len(caught) == 1
    names = ", ".join(f"heads.{number}.weight" for number in range(5))
    with pytest.warns(UserWarning, match=f"reached {names} and 2 more in a whole epoch"):
        train(heads(7))
    with pytest.warns(UserWarning, match=f"reached {names} in a whole epoch"):
        train(heads(5))

    def cut(m, x, y, step, g):  # a decoder that is looked at and not trained
        with torch.no_grad():
            decoded = m.decode(m.encode(x).mu)
        return m.log_likelihood(x, decoded) - m.elbo(x, generator=g).kl

    with pytest.warns(UserWarning, match=r"reached decoder.0.weight, decoder.0.bias, decoder.2.weight, decoder.2.bias"):
        train(VAE(16, (8,), 2), objective=cut)


def test_a_parameter_that_gets_a_gradient_in_some_steps_is_not_said(recwarn):
    vae = heads(1)
    train(vae, batch_size=32, objective=lambda m, x, y, s, g: m.elbo(x).elbo + (s == 4) * m.heads[0].weight.sum())
    train(
        vae, batch_size=32, objective=lambda m, x, y, s, g: m.elbo(x).elbo + (m.heads[0].weight.sum() if s == 4 else 0)
    )
    assert not recwarn.list


@pytest.mark.parametrize(
    "make",
    [
        lambda: heads(1, frozen=True),
        lambda: CVAE(16, 3, (8,), 2, prior="conditional"),
        lambda: VAE(16, (), 2, likelihood="gaussian", sigma="learned"),
        lambda: VAE(16, (8,), 2, likelihood=DiscretisedLogistic()),
    ],
)
def test_frozen_parameters_and_gradients_of_zero_are_not_said(make, recwarn):
    x, y = (images() * 255).round() / 255, torch.arange(200) % 3
    model = make()
    train(model, x, y=y if isinstance(model, CVAE) else None)
    train(
        model,
        x,
        y=y if isinstance(model, CVAE) else None,
        objective=lambda m, *a: m.elbo(*a[: 1 + (a[1] is not None)], beta=0),
    )
    assert not recwarn.list


def test_a_warning_is_heard_for_each_model_at_the_reader_s_own_line():
    """Python shows the same words from the same line once in a process, where nobody asks for more."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            train(heads(1))
            VAE(16, (), 2, decoder=nn.Sequential(nn.Linear(2, 16), nn.Sequential(Half()))).elbo(images(3))
    assert [each.filename for each in caught] == [__file__] * 4


class Half(nn.Module):
    """All its outputs are 1/2, as a probability."""

    def forward(self, x):
        return 0 * x + 0.5


def test_an_empty_batch_does_not_use_up_the_warning_of_probabilities():
    vae = VAE(16, (), 2, decoder=nn.Sequential(nn.Linear(2, 16), nn.Sequential(Half())))
    vae.reconstruct(images(0))
    with pytest.warns(UserWarning, match="a Bernoulli likelihood takes logits"):
        vae.elbo(images(3))


@pytest.mark.parametrize("first", ["ElboTerms", "a tensor"])
def test_an_objective_that_changes_its_kind_stops_before_the_weights_change(first):
    seen, vae = [], VAE(16, (8,), 2)

    def objective(m, x, y, step, g):
        seen.append([parameter.detach().clone() for parameter in m.parameters()])
        terms = m.elbo(x, generator=g)
        return terms if (step < 2) == (first == "ElboTerms") else terms.elbo

    with pytest.raises(TypeError, match=rf"the objective returned {first} before and .* now \(step 2\)"):
        train(vae, batch_size=32, objective=objective)
    assert all(torch.equal(a, b) for a, b in zip(seen[-1], vae.parameters(), strict=True))


def test_an_objective_that_is_of_another_kind_in_validation_is_refused():
    with pytest.raises(TypeError, match="the objective returned ElboTerms before and a tensor now"):
        train(
            VAE(16, (8,), 2), validation=images(20),
            objective=lambda m, x, y, s, g: m.elbo(x) if m.training else m.elbo(x).elbo,
        )  # fmt: skip


def noisy(m, x, y, step, g):
    return -(m.decode(m.encode(x).mu + torch.randn(len(x), 2)) - x).square().sum(1)


def test_asking_whether_an_objective_depends_on_its_step_changes_no_run(monkeypatch, recwarn):
    first, second = VAE(16, (8,), 2), VAE(16, (8,), 2)
    options = {"objective": noisy, "validation": images(20), "epochs": 3, "batch_size": 32}
    expected = train(first, **options)
    assert not [each for each in recwarn.list if "depends on the step" in str(each.message)]
    monkeypatch.setattr(_run.Run, "_warn_of_scores_that_differ_in_kind", lambda self, x, y: None)
    history = train(second, **options)
    assert history.train == expected.train and history.validation == expected.validation
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_an_objective_that_depends_on_its_step_is_said_once_and_not_of_a_single_epoch(recwarn):
    def annealed(m, x, y, step, g):
        return m.elbo(x, beta=step / 10, generator=g).objective

    train(VAE(16, (8,), 2), epochs=1, objective=annealed, validation=images(20))
    train(VAE(16, (8,), 2), epochs=3, objective=annealed)
    assert not recwarn.list
    train(VAE(16, (8,), 2), epochs=5, objective=annealed, validation=images(20))
    assert len(recwarn.list) == 1


def test_validation_of_zeros_and_ones_beside_grey_images_and_binary_ones_is_not_said(recwarn):
    binary = data.binarize(images(), torch.Generator().manual_seed(0))
    train(VAE(16, (8,), 2), validation=binary)
    train(VAE(16, (8,), 2), binary, validation=binary)
    train(VAE(16, (8,), 2), transform=lambda x, g: x.flip(1), validation=images(20))
    assert not recwarn.list


def test_a_negative_kl_is_said_where_no_estimate_of_one_could_be_so_negative():
    # An estimate of a KL near zero by sampling may be negative: by less than 3 / sqrt(n) of n examples.
    assert about_a_negative_kl(-0.12, 10_000) is None and about_a_negative_kl(-0.2, 100) is None
    assert "-0.14 nats" in about_a_negative_kl(-0.14, 10_000) and about_a_negative_kl(-0.5, 100)
    assert about_a_negative_kl(0.0, 1) is None and about_a_negative_kl(5.0, 1) is None


class WithState(nn.Linear):
    """A layer that keeps more than tensors in its state."""

    notes = ("a", "b")

    def get_extra_state(self):
        return {"notes": self.notes}

    def set_extra_state(self, state):
        self.notes = state["notes"]


def test_a_layer_that_keeps_more_than_tensors_is_trained_copied_and_put_back():
    vae = VAE(16, (), 2, encoder=WithState(16, 4))
    history = train(vae, validation=images(20))
    best = VAE(16, (), 2, encoder=WithState(16, 4))
    best.encoder.notes = ()
    best.load_state_dict(history.best_weights)
    assert best.encoder.notes == ("a", "b")

    def failing(m, x, y, step, g):
        m.encoder.notes = ("c",)
        raise KeyError("on purpose")

    with pytest.raises(KeyError):
        train(vae, objective=failing)
    assert vae.encoder.notes == ("a", "b")


def test_a_failure_after_the_first_step_leaves_the_weights_of_the_steps_before_it():
    vae, seen = VAE(16, (8,), 2), []

    def failing(m, x, y, step, g):
        seen.append([parameter.detach().clone() for parameter in m.parameters()])
        return m.elbo(x, generator=g) if step < 2 else 1 / 0

    with pytest.raises(ZeroDivisionError):
        train(vae, batch_size=32, objective=failing)
    assert all(torch.equal(a, b) for a, b in zip(seen[-1], vae.parameters(), strict=True))
    assert not torch.equal(seen[0][0], seen[-1][0])


class Small(nn.Module):
    """A model of the reader's own without check."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 1, dtype=dtype)
        self.seen: set[torch.dtype] = set()

    def elbo(self, x):
        self.seen.add(x.dtype)
        return -self.layer(x.to(self.layer.weight.dtype)).square().squeeze(1)


@pytest.mark.parametrize("own", [torch.float32, torch.float64])
def test_a_model_without_check_gets_real_numbers_in_its_own_type_and_whole_ones_as_they_are(own):
    for x in (images().double().numpy(), images(), images() > 0.5):
        model = Small(own)
        train(model, x)
        evaluation.mean_elbo(model, x)
        assert model.seen == {own}
    model = Small(own)
    train(model, torch.arange(32).view(2, 16))
    assert model.seen == {torch.int64}


def test_a_model_without_check_is_not_trained_on_what_is_no_number():
    with pytest.raises(ValueError, match=r"pixel \(1, 2\) is inf: every pixel must be a finite number"):
        x = images()
        x[1, 2] = math.inf
        train(Small(), x)


def test_a_failure_that_has_nothing_to_do_with_a_type_keeps_its_name():
    class Odd(Small):
        def elbo(self, x):
            raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        train(Odd(), torch.arange(32).view(2, 16))
    with pytest.raises(RuntimeError, match="a dtype of another kind"):
        train(Small(), objective=lambda m, x, y, s, g: (_ for _ in ()).throw(RuntimeError("a dtype of another kind")))


@pytest.mark.parametrize("beta", [-1.0, math.nan, math.inf, True, None, "2", np.array([1.0])])
def test_a_weight_of_the_kl_that_can_t_be_one_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be a number of at least 0, or a tensor of such numbers"):
        VAE(16, (8,), 2).elbo(images(), beta=beta)


@pytest.mark.parametrize(
    ("beta", "message"),
    [
        (torch.tensor([1.0] * 199 + [-0.5]), "every beta must be .* the lowest here is -0.5"),
        (torch.tensor(math.nan), "the lowest here is nan"),
        (torch.tensor(math.inf), "every beta must be a number"),
        (torch.ones(3), r"beta has shape \(3,\), and there are 200 examples"),
        (torch.ones(200, 1), r"beta has shape \(200, 1\)"),
        (torch.ones(1, 1), r"beta has shape \(1, 1\)"),
    ],
)
def test_a_tensor_of_weights_that_can_t_be_is_refused(beta, message):
    with pytest.raises(ValueError, match=message):
        VAE(16, (8,), 2).elbo(images(), beta=beta)


def test_weights_that_can_be_are_taken():
    terms = VAE(16, (8,), 2).elbo(images())
    for beta in (0, 0.0, 2, np.float32(2), torch.tensor(2.0), torch.ones(1), torch.rand(200)):
        assert ElboTerms(*terms, beta).objective.shape == (200,)


def test_hidden_dims_may_be_an_array_a_tensor_or_made_on_the_way():
    for widths in (np.array([8, 4]), torch.tensor([8, 4]), [8, 4], (width for width in (8, 4))):
        cvae = CVAE(16, 3, widths, 2, prior="conditional")
        assert cvae.config["hidden_dims"] == [8, 4]
        for network in (cvae.encoder, cvae.decoder, cvae.prior_network):
            assert sum(isinstance(layer, nn.Linear) for layer in network) == 3
    for widths in (400, "400", 4.5, None):
        with pytest.raises(ValueError, match=r"hidden_dims must be a sequence of widths, such as \(400,\)"):
            VAE(16, widths, 2)
    with pytest.raises(ValueError, match=r"a layer size must be a whole number of at least 1, not 8.5"):
        VAE(16, np.array([8.5]), 2)


def test_a_pair_of_images_and_conditions_may_be_a_list():
    x, y = images(), torch.arange(200) % 3
    histories = [train(CVAE(16, 3, (8,), 2), x, y=y, validation=pair) for pair in ((x, y), [x, y])]
    assert histories[0].validation == histories[1].validation


@pytest.mark.parametrize("form", [tuple, lambda q: SimpleNamespace(mu=q.mu, logvar=q.log_var)])
def test_codes_are_asked_of_a_model_that_has_a_distribution_of_them(form):
    class Pair(VAE):
        def encode(self, x, y=None):
            return form(super().encode(x))

    with pytest.raises(
        TypeError, match=r"encode_dataset needs a posterior \(mu, log_var\), and Pair.encode returns a (tuple|Simple)"
    ):
        latent.encode_dataset(Pair(16, (8,), 2), images())
