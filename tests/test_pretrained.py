"""The shipped models: each loads, is small, says how it was made, and reaches the test ELBO that is recorded."""

import datetime

import pytest
import torch

from vaelib import data, evaluation, pretrained
from vaelib.vae import VAE

NAMES = pretrained.names()


def test_the_models_of_the_chapters_ship():
    assert {"mnist-2d", "mnist-20d"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_loads_and_decodes_images(name):
    model = pretrained.load(name)
    settings = pretrained.record(name)["settings"]
    assert isinstance(model, VAE) and not model.training
    assert (model.data_dim, model.latent_dim) == (settings["data_dim"], settings["latent_dim"])
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.float32}
    samples = model.sample(100, torch.Generator().manual_seed(0))
    assert samples.shape == (100, 784)
    # A model that had learned nothing would decode the same image, or grey noise, from every code.
    assert samples.std(0).max() > 0.3 and samples.min() < 0.05 and samples.max() > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_is_below_two_megabytes(name):
    size = (pretrained._WEIGHTS / f"{name}.safetensors").stat().st_size
    assert size == pretrained.record(name)["bytes"] < 2e6


@pytest.mark.parametrize("name", NAMES)
def test_a_record_says_how_the_model_was_made(name):
    record = pretrained.record(name)
    assert record["command"] == f"python tools/train_pretrained.py {name}"
    assert isinstance(record["settings"]["seed"], int)
    assert all(record[key] for key in ("vaelib", "torch", "python", "device", "evaluation"))
    datetime.date.fromisoformat(record["date"])


def test_the_recorded_test_elbo_is_that_of_the_shipped_weights_on_real_mnist():
    if any(file.state != "verified" for file in data.locate("mnist")):
        pytest.skip("MNIST is not at hand: set VAELIB_DATA, or run `python -m vaelib data mnist`")
    images = data.load("mnist", "test").images
    for name in NAMES:
        # 0.01 nats: the noise is the same, so that what is left is the order in which another machine adds.
        measured = evaluation.test_elbo(pretrained.load(name), images)
        assert measured == pytest.approx(pretrained.record(name)["test_elbo"], abs=0.01), name


@pytest.mark.parametrize("read", [pretrained.load, pretrained.record])
def test_an_unknown_name_lists_those_that_ship(read):
    with pytest.raises(ValueError, match=f"no model 'mnist-3d' ships with vaelib: choose one of {', '.join(NAMES)}"):
        read("mnist-3d")
