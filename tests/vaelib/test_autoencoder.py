"""The autoencoder against principal components, whose subspace a linear one must find, and against bad input."""

import numpy as np
import pytest
import torch

from vaelib.autoencoder import Autoencoder
from vaelib.data import load
from vaelib.training import fit

D, K = 12, 3


def data() -> torch.Tensor:
    """200 points around a mean that is not zero, with well separated variances along random directions."""
    generator = np.random.default_rng(0)
    directions = np.linalg.qr(generator.normal(size=(D, D)))[0]
    return torch.tensor(generator.normal(size=(200, D)) * np.geomspace(3, 0.1, D) @ directions + 2.0)


def principal(x: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The first K principal axes, (K, D), and the squared error that is left over, summed over the points."""
    _, singular, axes = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    return axes[:K], float(singular[K:].square().sum())


@pytest.fixture(scope="module")
def trained() -> Autoencoder:
    model, x = Autoencoder(D, (), K).double(), data()
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=2000, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = model.loss(x).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return model


def test_linear_autoencoder_spans_the_principal_subspace(trained):
    axes, _ = principal(data())
    spanned = torch.linalg.qr(trained.decoder[0].weight.detach())[0]
    cosines = torch.linalg.svdvals(axes @ spanned).clamp(max=1)
    # L-BFGS in float64 ends far below this; a subspace off by one axis has an angle of pi/2.
    assert torch.arccos(cosines).max() < 1e-3


def test_linear_autoencoder_need_not_find_the_principal_axes_themselves(trained):
    axes, _ = principal(data())
    columns = torch.nn.functional.normalize(trained.decoder[0].weight.detach(), dim=0)
    assert (axes @ columns).abs().max(dim=0).values.min() < 0.95  # 18 degrees off every axis, in the right subspace


def test_no_linear_autoencoder_beats_principal_components(trained):
    x = data()
    _, left_over = principal(x)
    # Eckart and Young: equality at the optimum; the relative tolerance is what L-BFGS leaves.
    assert trained.loss(x).sum().item() == pytest.approx(left_over, rel=1e-6)
    for seed in range(5):
        assert Autoencoder(D, (), K, seed=seed).double().loss(x).sum() > left_over


def test_weights_set_to_the_principal_axes_leave_the_discarded_variance():
    x = data()
    axes, left_over = principal(x)
    model = Autoencoder(D, (), K).double()
    with torch.no_grad():
        model.encoder[0].weight.copy_(axes)
        model.encoder[0].bias.copy_(-axes @ x.mean(0))
        model.decoder[0].weight.copy_(axes.T)
        model.decoder[0].bias.copy_(x.mean(0))
    assert model.loss(x).sum().item() == pytest.approx(left_over, rel=1e-10)  # both in float64


def test_loss_sums_squares_over_pixels_and_keeps_one_value_an_image():
    model = Autoencoder(4, (), 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.decoder[0].bias.fill_(1.0)
    loss = model.loss(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 3.0, 1.0, 1.0]]))
    assert loss.tolist() == [0.0, 5.0]


def test_loss_is_that_of_the_reconstruction():
    model, x = Autoencoder(64, (32, 16), 2), torch.rand(5, 64)
    by_hand = ((x - model.decode(model.encode(x))) ** 2).sum(1)
    assert torch.equal(model.loss(x), by_hand)
    assert torch.equal(model.loss(x, check=False), by_hand)


def test_decoder_mirrors_the_encoder_and_ends_linear():
    model = Autoencoder(64, (32, 16), 2)
    shapes = [
        [m.out_features for m in part if isinstance(m, torch.nn.Linear)] for part in (model.encoder, model.decoder)
    ]
    assert shapes == [[32, 16, 2], [16, 32, 64]]
    assert isinstance(model.encoder[-1], torch.nn.Linear) and isinstance(model.decoder[-1], torch.nn.Linear)


@pytest.mark.parametrize("shape", [(7, 64), (7, 8, 8), (7, 1, 8, 8)])
def test_all_image_shapes_give_the_same_codes(shape):
    model, x = Autoencoder(64, (16,), 3), torch.rand(7, 64)
    codes = model.encode(x.reshape(shape))
    assert codes.shape == (7, 3) and torch.equal(codes, model.encode(x))
    assert model.loss(x.reshape(shape)).shape == (7,)


def test_codes_of_any_leading_shape_are_decoded():
    assert Autoencoder(64, (16,), 3).decode(torch.zeros(4, 5, 3)).shape == (4, 5, 64)


def test_seed_alone_decides_the_weights():
    x = torch.ones(1, 64)
    first, same, other = (Autoencoder(64, (16,), 3, seed=seed).encode(x) for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_batch_of_one_works_and_an_empty_one_has_no_losses():
    model = Autoencoder(64, (16,), 3)
    assert model.loss(torch.rand(1, 8, 8)).shape == (1,)
    assert model.loss(torch.empty(0, 64)).shape == (0,)


def test_fit_trains_it_to_beat_the_mean_image_by_far():
    digits = load("digits").images
    mean_error = (digits - digits.mean(0)).square().sum((1, 2)).mean().item()
    model = Autoencoder(64, (32,), 8)
    fit(
        model,
        digits,
        epochs=8,
        batch_size=32,
        learning_rate=1e-2,
        objective=lambda model, x, y, step, generator: -model.loss(x, check=False),
        progress=False,
    )
    # Eight principal components leave a third of the variance; a code that is not learnt leaves all of it.
    assert model.loss(digits).mean().item() < 0.5 * mean_error


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.rand(3, 63), r"\(N, 64\)"),
        (torch.rand(3, 3, 8, 8), r"\(N, 64\)"),
        (torch.rand(64), r"\(N, 64\)"),
        (torch.zeros(3, 64, dtype=torch.uint8), "divide by 255"),
        (torch.full((1, 64), torch.nan), r"pixel \(0, 0\) is nan"),
        (torch.full((1, 64), torch.inf), r"pixel \(0, 0\) is inf"),
    ],
)
def test_bad_images_are_refused(x, message):
    model = Autoencoder(64, (16,), 3)
    for use in (model.encode, model.loss):
        with pytest.raises(ValueError, match=message):
            use(x)


def test_codes_of_another_width_are_refused():
    with pytest.raises(ValueError, match="latent_dim = 3"):
        Autoencoder(64, (16,), 3).decode(torch.zeros(4, 2))


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_sizes_must_be_positive_whole_numbers(size):
    for arguments in ((size, (16,), 3), (64, (size,), 3), (64, (16,), size)):
        with pytest.raises(ValueError, match="whole number"):
            Autoencoder(*arguments)


def test_unknown_activation_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="relu, tanh"):
        Autoencoder(64, (16,), 3, activation="swish")
