"""Latent space: grids, paths and traversals against the geometry that they claim, encoding against encoding at once."""

import re

import numpy as np
import pytest
import torch

from vaelib.latent import encode_dataset, interpolate, prior_grid, traverse
from vaelib.vae import VAE


@pytest.fixture(scope="module")
def model():
    return VAE(16, (8,), 3, seed=0)


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_each_grid_point_is_the_median_of_a_cell_of_equal_prior_mass(n):
    grid = prior_grid(n).double()
    mass = torch.distributions.Normal(0.0, 1.0).cdf(grid)  # another implementation than the module's inverse
    middles = (torch.arange(n) + 0.5) / n
    for axis in mass.unbind(1):
        # 1e-6: the points are rounded to float32 (6e-8 relative, at most 3 units out), and the density is below 0.4.
        torch.testing.assert_close(axis.unique(), middles.double(), atol=1e-6, rtol=0)
    assert len(grid.unique(dim=0)) == n * n


@pytest.mark.parametrize("span", [None, 3.0])
def test_grid_reads_like_a_picture_z1_to_the_right_and_z2_upwards(span):
    rows = prior_grid(7, span).reshape(7, 7, 2)
    assert (rows[:, 1:, 0] > rows[:, :-1, 0]).all() and (rows[:, 1:, 1] == rows[:, :-1, 1]).all()
    assert (rows[1:, :, 1] < rows[:-1, :, 1]).all() and (rows[1:, :, 0] == rows[:-1, :, 0]).all()


def test_grid_with_a_span_is_even_and_ends_there():
    axis = prior_grid(7, span=3.0)[:, 0].unique()
    torch.testing.assert_close(axis, torch.tensor([-3.0, -2, -1, 0, 1, 2, 3]))


def test_interpolation_has_exact_ends_and_equal_steps_on_the_line():
    start, end = torch.tensor([-1.0, 0.3, 2.0]), torch.tensor([0.7, -5.0, 2.0])
    path = interpolate(start, end, 6)
    assert path.shape == (6, 3)
    assert torch.equal(path[0], start) and torch.equal(path[-1], end)
    # 1e-6: float32 rounding of numbers up to 5.
    torch.testing.assert_close(path.diff(dim=0), ((end - start) / 5).expand(5, 3), atol=1e-6, rtol=0)
    assert torch.equal(interpolate(start, start, 4), start.expand(4, 3))


def test_traversal_changes_one_column_and_leaves_its_code_alone():
    z = torch.tensor([0.1, 0.2, 0.3])
    codes = traverse(z, 1, [-3, 0, 3])
    assert torch.equal(codes, torch.tensor([[0.1, -3, 0.3], [0.1, 0, 0.3], [0.1, 3, 0.3]]))
    assert torch.equal(z, torch.tensor([0.1, 0.2, 0.3]))


@pytest.mark.parametrize("n", [1, 1999, 2000, 2001, 4500])
def test_encoding_a_dataset_in_parts_equals_encoding_it_at_once(model, n):
    images = uniform(n, 4, 4)
    parts = encode_dataset(model, images)
    with torch.no_grad():
        whole = model.encode(images)
    # 1e-6: a matrix product of another height may add in another order.
    torch.testing.assert_close(parts.mu, whole.mu, atol=1e-6, rtol=0)
    torch.testing.assert_close(parts.log_var, whole.log_var, atol=1e-6, rtol=0)
    assert not parts.mu.requires_grad


def test_encoding_accepts_arrays_and_every_shape_of_an_image(model):
    images = uniform(5, 16)
    wanted = encode_dataset(model, images).mu
    for given in (images.numpy(), images.reshape(5, 4, 4), images.reshape(5, 1, 4, 4)):
        assert torch.equal(encode_dataset(model, given).mu, wanted)


def test_encoding_no_image_gives_no_code(model):
    mu, log_var = encode_dataset(model, torch.zeros(0, 4, 4))
    assert mu.shape == log_var.shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: prior_grid(0), "n must be a whole number of at least 1, not 0"),
        (lambda model: prior_grid(2.5), "n must be a whole number of at least 1, not 2.5"),
        (lambda model: prior_grid(5, span=-3.0), "span must be a positive number, not -3.0"),
        (lambda model: prior_grid(5, span=float("nan")), "span must be a positive number, not nan"),
        (lambda model: prior_grid(2, span=float("inf")), "span must be a positive number, not inf"),
        (lambda model: interpolate(torch.zeros(2), torch.zeros(3), 5), "(K,), not (2,) and (3,)"),
        (lambda model: interpolate(torch.zeros(1, 2), torch.zeros(1, 2), 5), "not (1, 2) and (1, 2)"),
        (lambda model: interpolate(torch.zeros(2), torch.ones(2), 1), "at least 1"),
        (lambda model: traverse(torch.zeros(3), 3, [0.0]), "dimension from 0 to K - 1, not (3,) and 3"),
        (lambda model: traverse(torch.zeros(3), -1, [0.0]), "(3,) and -1"),
        (lambda model: traverse(torch.zeros(3), 0.5, [0.0]), "(3,) and 0.5"),
        (lambda model: traverse(torch.zeros(1, 3), 0, [0.0]), "not (1, 3) and 0"),
        (lambda model: traverse(torch.zeros(3), 0, 1.0), "values must be a list (n,), not of shape ()"),
        (lambda model: encode_dataset(model, torch.zeros(2, 5, 5)), "images have shape (2, 5, 5)"),
        (lambda model: encode_dataset(model, torch.full((2, 4, 4), 255.0)), "divide by 255"),
        (lambda model: encode_dataset(model, torch.zeros(2, 4, 4, dtype=torch.uint8)), "divide by 255"),
    ],
)
def test_wrong_input_is_named(model, call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(model)


CODES = [torch.tensor([0, 1]), [0, 1], np.array([0, 1]), np.array([0.0, 1.0]), torch.tensor([0.0, 1.0])]


@pytest.mark.parametrize("code", CODES)
def test_codes_of_whole_numbers_and_of_numpy_are_real_ones(code):
    z = torch.tensor([0.0, 1.0])
    for values in ([-1.5, 0.5], np.array([-1.5, 0.5]), torch.tensor([-1.5, 0.5])):
        found = traverse(code, 0, values)
        assert found.is_floating_point() and torch.equal(found.float(), traverse(z, 0, values))
    for other in (torch.tensor([2.0, -1.0], dtype=torch.float64), np.array([2, -1]), [2, -1]):
        path = interpolate(code, other, 4)
        assert path.is_floating_point()
        # 1e-6: two float types round their thirds each in its own way.
        torch.testing.assert_close(path.float(), interpolate(z, torch.tensor([2.0, -1.0]), 4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("code", ["z", {"z": 1}, None])
def test_what_is_no_code_is_named(code):
    for call in (lambda: traverse(code, 0, [1.0]), lambda: interpolate(code, torch.zeros(2), 3)):
        with pytest.raises(TypeError, match="codes are a"):
            call()
