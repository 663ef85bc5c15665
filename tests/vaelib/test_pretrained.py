"""The shipped models: each loads, is small, says how it was made, and reaches the test ELBO that is recorded."""

import datetime
import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from experiments import train_pretrained
from vaelib import data, pretrained
from vaelib.cvae import CVAE
from vaelib.vae import VAE

NAMES = pretrained.names()


def settings_of(name: str) -> dict:
    """Return how a model was made and trained."""
    return pretrained.record(name)["settings"]


OF_MNIST = [name for name in NAMES if settings_of(name).get("data", "mnist") == "mnist"]


def samples_of(model: VAE | CVAE, n: int) -> torch.Tensor:
    """Return mean images of draws from the prior: of all classes, or where the seen pixels are black."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(model, VAE):
        return model.sample(n, generator)
    if model.condition_dim == 2:  # the camera's azimuth
        angle = torch.linspace(0, 6.28, n)
        return model.sample(torch.stack([angle.cos(), angle.sin()], 1), generator)
    classes = model.condition_dim == 10
    return model.sample(torch.arange(n) % 10 if classes else torch.zeros(n, model.condition_dim), generator)


def test_the_models_of_the_chapters_ship():
    assert {"mnist-2d", "mnist-20d"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_loads_and_decodes_images(name):
    model = pretrained.load(name)
    settings = pretrained.record(name)["settings"]
    assert isinstance(model, VAE | CVAE) and not model.training
    assert (model.data_shape, model.latent_dim) == (tuple(np.atleast_1d(settings["data_dim"])), settings["latent_dim"])
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.float32}
    samples = samples_of(model, 100)
    assert samples.shape == (100, *model.data_shape)
    # A model that had learned nothing would decode the same image, or grey noise, from every code.
    spread, black, white = (0.2, 0.15, 0.85) if len(model.data_shape) == 3 else (0.3, 0.05, 0.95)
    assert samples.std(0).max() > spread and samples.min() < black and samples.max() > white


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_is_below_two_megabytes(name):
    size = (pretrained._WEIGHTS / f"{name}.safetensors").stat().st_size
    assert size == pretrained.record(name)["bytes"] < 2e6


@pytest.mark.parametrize("name", NAMES)
def test_a_record_says_how_the_model_was_made(name):
    record = pretrained.record(name)
    assert record["command"] == f"python -m experiments.train_pretrained {name}"
    assert isinstance(record["settings"]["seed"], int)
    assert all(record[key] for key in ("vaelib", "torch", "python", "device", "evaluation"))
    datetime.date.fromisoformat(record["date"])


def test_the_recorded_test_elbo_is_that_of_the_shipped_weights_on_real_mnist():
    if any(file.state != "verified" for file in data.locate("mnist")):
        pytest.skip("MNIST is not at hand: set VAELIB_DATA, or run `python -m vaelib data mnist`")
    test = data.load("mnist", "test")
    for name in OF_MNIST:
        # 0.01 nats: the noise is the same, so that what is left is the order in which another machine adds.
        record = pretrained.record(name)
        settings = record["settings"]
        measured = train_pretrained.recorded_elbo(
            pretrained.load(name), test, "k" in settings, settings.get("quadrants")
        )
        assert measured == pytest.approx(record["test_elbo"], abs=0.01), name


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(OF_MNIST)))
def test_the_recorded_test_elbo_and_bits_are_those_of_the_shipped_weights_on_the_scene(name):
    record, model = pretrained.record(name), pretrained.load(name)
    measured = train_pretrained.recorded_elbo(model, data.load("scene", "test"), False)
    # 1 nat of thousands: float32, summed in another order
    assert measured == pytest.approx(record["test_elbo"], abs=1)
    assert train_pretrained.recorded_bits(model, measured) == pytest.approx(record["test_bits_per_dimension"], abs=6e-4)


def test_it_is_known_which_shipped_models_have_conditions_that_are_no_classes():
    found = {name: pretrained.load(name)._takes_classes for name in NAMES if "condition_dim" in settings_of(name)}
    assert found == {"mnist-cvae-2d": True, "mnist-cvae-20d": True, "mnist-quadrant": False, "scene-cvae": False}


def test_the_recorded_test_elbo_and_bits_of_the_scene_are_those_of_the_shipped_weights():
    record, model, test = pretrained.record("scene"), pretrained.load("scene"), data.load("scene", "test")
    measured = train_pretrained.recorded_elbo(model, test, binarised=False)
    # 1 nat of some 10,000: float32 sums of 3,072 numbers, in another order on another machine.
    assert measured == pytest.approx(record["test_elbo"], abs=1)
    # By hand: the probability of each of 3,072 numbers of 256 levels, in bits.
    assert record["test_bits_per_dimension"] == pytest.approx(-record["test_elbo"] / 3072 / math.log(2), abs=1e-4)
    assert "a bound" in record["evaluation"] and "without noise" in record["evaluation"]


def test_standardised_codes_cost_less_and_decode_to_the_same_pictures():
    config = {"data_dim": (3, 8, 8), "hidden_dims": (), "latent_dim": 3, "likelihood": "discretised_logistic"}
    model = pretrained.build(config | {"channels": (4, 8)})
    with torch.no_grad():  # codes far from the prior, each dimension in its own way
        model.encoder[-1].weight *= 20
        model.encoder[-1].bias.copy_(torch.tensor([1.0, -2.0, 0.0, -1.0, -2.0, -3.0]))
    x = torch.randint(256, (500, 3, 8, 8), generator=torch.Generator().manual_seed(0)) / 255
    images = data.ImageData("noise", x, torch.zeros(500, dtype=torch.long))
    with torch.no_grad():
        before, mean = model.encode(x), model.mean(model.decode(model.encode(x).mu))
        saved = train_pretrained.standardise(model, images)
        after = model.encode(x)
    # The variance of q(z) is that of mu and the mean of sigma^2 together; float32 sums.
    torch.testing.assert_close(after.mu.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.mu.var(0) + after.log_var.exp().mean(0), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(model.mean(model.decode(after.mu)), mean, atol=1e-4, rtol=0)
    kls = [
        torch.distributions.kl_divergence(Normal(mu, torch.exp(0.5 * log_var)), Normal(0.0, 1.0)).sum(1).mean()
        for mu, log_var in (before, after)
    ]
    assert saved == pytest.approx(float(kls[0] - kls[1]), abs=1e-3) and saved > 0


@pytest.mark.parametrize("read", [pretrained.load, pretrained.record])
def test_an_unknown_name_lists_those_that_ship(read):
    with pytest.raises(ValueError, match=f"no model 'mnist-3d' ships with vaelib: choose one of {', '.join(NAMES)}"):
        read("mnist-3d")
