"""What is taken for images, conditions, codes and labels: one rule at every door, and each remedy is obeyed."""

import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from vaelib import data
from vaelib.cvae import CVAE
from vaelib.data import ImageData
from vaelib.evaluation import mean_elbo
from vaelib.latent import encode_dataset
from vaelib.training import fit
from vaelib.vae import VAE

DIGITS = data.load("digits").subset(20)
X, Y = DIGITS.images, DIGITS.labels


def vae():
    return VAE(64, (8,), 2)


def cvae():
    return CVAE(64, 10, (8,), 2)


def train(model, images, y=None):
    return fit(model, images, y=y, epochs=1, progress=False, device="cpu")


DOORS = {
    "fit": lambda y: train(cvae(), X, y),
    "validation": lambda y: fit(cvae(), X, y=Y, validation=(X, y), epochs=1, progress=False, device="cpu"),
    "mean_elbo": lambda y: mean_elbo(cvae(), X, y),
    "encode_dataset": lambda y: encode_dataset(cvae(), X, y).mu.sum().item(),
    "elbo": lambda y: cvae().elbo(X, y, generator=torch.Generator().manual_seed(0)).elbo.mean().item(),
    "sample": lambda y: cvae().sample(y, torch.Generator().manual_seed(0)).sum().item(),
}
SAME_CONDITIONS = {
    "list": Y.tolist(),
    "tuple": tuple(Y.tolist()),
    "list of NumPy's numbers": list(Y.numpy()),
    "int8": Y.to(torch.int8),
    "uint16": Y.numpy().astype(np.uint16),
    "uint32": Y.numpy().astype(np.uint32),
    "uint64": Y.numpy().astype(np.uint64),
    "list of vectors": torch.nn.functional.one_hot(Y, 10).tolist(),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("form", SAME_CONDITIONS)
def test_conditions_in_whatever_form_give_the_numbers_of_a_tensor_at_every_door(door, form):
    found, expected = DOORS[door](SAME_CONDITIONS[form]), DOORS[door](Y)
    if door in ("fit", "validation"):
        found, expected = ((each.train, each.validation) for each in (found, expected))
    assert found == expected


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("form", [list, np.array, lambda y: np.array(y, dtype=object), tuple])
def test_names_of_classes_are_numbered_as_the_message_says(door, form):
    y = form([("cat", "dog")[k % 2] for k in range(len(X))])
    with pytest.raises(TypeError, match="give the number of each class: ") as caught:
        DOORS[door](y)
    space = {"y": y, "torch": torch}
    exec(str(caught.value).partition("class: ")[2], space)
    assert space["y"].tolist() == [k % 2 for k in range(len(X))]
    DOORS[door](space["y"])


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("single", [torch.tensor(3), np.array(3), np.int64(3), 3])
def test_a_single_number_as_conditions_is_named(door, single):
    with pytest.raises(ValueError, match=r"conditions are a single number, 3: give them in a list, as \[3\]"):
        DOORS[door](single)


def test_a_single_condition_in_a_list_is_obeyed():
    assert cvae().sample([3]).shape == (1, 64)


@pytest.mark.parametrize("pair", [(X, Y), [X, Y], (X.numpy(), Y.numpy()), (X, Y.tolist())])
@pytest.mark.parametrize("door", [train, mean_elbo, encode_dataset, lambda model, x: model.elbo(x)])
def test_a_pair_in_the_place_of_images_is_given_apart(pair, door):
    with pytest.raises(TypeError, match="give the two apart: the images alone, and y=y where the model takes cond"):
        door(vae(), pair)
    train(vae(), pair[0])
    train(cvae(), pair[0], y=pair[1])


@pytest.mark.parametrize(
    ("images", "shapes"),
    [
        ([X[0], X[1, :3], X[2]], "(8, 8) and (3, 8)"),
        ([np.zeros((8, 8)), np.zeros((8, 8)), np.zeros((4, 4))], "(8, 8) and (4, 4)"),
        ([Image.new("L", (8, 8)), Image.new("L", (8, 8)), Image.new("L", (4, 4))], "(8, 8) and (4, 4)"),
        ([[0.0, 1.0], [1.0], [0.0, 1.0]], "(2,) and (1,)"),
    ],
)
@pytest.mark.parametrize("door", [train, lambda model, x: model.elbo(x)])
def test_images_of_several_shapes_are_not_said_to_stack(door, images, shapes):
    with pytest.raises(TypeError, match=re.escape(f"bring them to one shape first: among them are {shapes}")):
        door(vae(), images)


def test_lists_of_numbers_are_images_for_the_model_and_for_training_alike():
    rows = X.flatten(1).tolist()
    assert train(vae(), rows).train == train(vae(), X).train
    assert torch.equal(vae().encode(rows).mu, vae().encode(X).mu)


# Image data, and what is made of them


def test_image_data_of_arrays_are_those_of_tensors():
    factors = np.arange(40.0).reshape(20, 2)
    found = ImageData("arrays", X.numpy(), Y.numpy(), factors)
    assert torch.equal(found.images, X) and torch.equal(found.labels, Y) and found.factors.shape == (20, 2)
    assert train(vae(), found).train == train(vae(), DIGITS).train
    with pytest.raises(TypeError, match="give the number of each class: ") as caught:
        ImageData("named", X, ["cat", "dog"] * 10)
    space = {"labels": ["cat", "dog"] * 10, "torch": torch}
    exec(str(caught.value).partition("class: ")[2], space)
    assert ImageData("named", X, space["labels"], classes=("cat", "dog")).labels.tolist() == [0, 1] * 10


def test_a_negative_number_of_images_is_refused():
    with pytest.raises(ValueError, match="rows is -5: give how many of the first images, from 0 on, or their indices"):
        DIGITS.subset(-5)
    assert len(DIGITS.subset(0)) == 0 and len(DIGITS.subset(np.int64(5))) == 5 and len(DIGITS.subset(99)) == 20
    assert torch.equal(DIGITS.subset(torch.arange(15, 20)).images, X[-5:])


@pytest.mark.parametrize("seed", [None, 1.5, -1, True, "0", 2**32])
def test_a_split_takes_the_seeds_that_all_else_takes(seed):
    with pytest.raises(ValueError, match=r"seed must be a whole number from 0 to 2\*\*32 - 1, not"):
        data.train_validation_split(DIGITS, 5, seed=seed)
    for good in (0, 3, 2**32 - 1):
        numpys = data.train_validation_split(DIGITS, 5, seed=np.int64(good))[1].images
        assert torch.equal(numpys, data.train_validation_split(DIGITS, 5, seed=good)[1].images)


def test_binarize_takes_arrays_and_names_the_rest():
    one, other = (data.binarize(x, torch.Generator().manual_seed(0)) for x in (X.numpy(), X))
    assert torch.equal(one, other)
    with pytest.raises(TypeError, match=r"give its images, data\.images"):
        data.binarize(DIGITS)
    data.binarize(DIGITS.images)
    with pytest.raises(TypeError, match=r"for a threshold, give it by its name, threshold=0\.5"):
        data.binarize(X, 0.5)
    assert torch.equal(data.binarize(X, threshold=0.5), (X > 0.5).float())
    for wrong in ("0.5", 1.5, float("nan"), torch.ones(2)):
        with pytest.raises(ValueError, match=r"threshold is .*, and pixels lie in"):
            data.binarize(X, threshold=wrong)
    for draws in (lambda wrong: data.binarize(X, wrong), lambda wrong: data.ring(5, wrong)):
        with pytest.raises(TypeError, match=r"make one with torch\.Generator\(\)\.manual_seed\(0\)"):
            draws(np.random.default_rng(0))
        draws(torch.Generator().manual_seed(0))


@pytest.mark.parametrize("n", [2.5, -1, "3", None])
def test_a_ring_of_no_whole_number_of_points_is_refused(n):
    with pytest.raises(ValueError, match=f"n is {n}: give the number of points, a whole number from 0 on"):
        data.ring(n)
    assert data.ring(0).shape == (0, 2) and data.ring(np.int64(3)).shape == (3, 2)


def test_the_config_of_a_model_is_plain_and_says_what_was_given():
    given = {"likelihood": "gaussian", "sigma": np.float32(0.25)}
    config = VAE(np.int64(16), (np.int64(8),), 2, **given).config
    assert config["sigma"] == 0.25 and type(config["sigma"]) is float
    assert config["hidden_dims"] == [8] and config["data_dim"] == 16 and config["likelihood"] == "gaussian"
    assert VAE(**config).likelihood.log_sigma.exp().item() == pytest.approx(0.25)


def test_two_pictures_of_different_sizes_are_no_pair_of_images_and_conditions():
    colour = [torch.rand(3, 8, 8), torch.rand(3, 8, 6)]
    for pictures in (colour, [Image.new("L", (8, 8)), Image.new("L", (8, 6))]):
        with pytest.raises(TypeError, match="bring them to one shape first"):
            train(vae(), pictures)


@pytest.mark.parametrize(
    ("images", "said"),
    [((X * 255).round(), True), (X, False), (X * 16, False), ((X * 16).round(), False), (X * 254.9, False)],
)
def test_bytes_that_were_not_divided_are_said_where_the_likelihood_takes_any_number(images, said):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(VAE(64, (8,), 2, likelihood="gaussian"), images)
    assert ["divide by 255" in str(each.message) for each in caught] == [True] * said
