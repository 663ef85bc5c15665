"""Multilayer perceptrons and convolutions: their layers, their first weights, and sizes that can't be right."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from vaelib import checkpoints, pretrained
from vaelib.cvae import CVAE
from vaelib.networks import conv_decoder, conv_encoder, mlp
from vaelib.training import fit
from vaelib.vae import VAE


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_mlp_is_linear_layers_with_an_activation_between_and_none_after():
    network = mlp((5, 4, 3), activation="tanh", generator=torch.Generator().manual_seed(0))
    first, last = network[0], network[2]
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    by_hand = torch.tanh(x @ first.weight.T + first.bias) @ last.weight.T + last.bias
    torch.testing.assert_close(network(x), by_hand)
    assert len(network) == 3


def test_two_sizes_make_one_linear_layer():
    assert [type(layer) for layer in mlp((5, 3))] == [nn.Linear]


def test_weights_are_uniform_within_one_over_the_root_of_fan_in_and_biases_zero():
    weight, bias = mlp((100, 400), generator=torch.Generator().manual_seed(0))[0].parameters()
    assert weight.abs().max() <= 0.1 and not bias.any()
    # A uniform variable on +-a has the standard deviation a / sqrt(3); 40,000 of them give it to within 1%.
    assert weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.01)


def test_leaky_relu_keeps_a_fifth_of_what_is_negative():
    leaky = mlp((1, 1, 1), activation="leaky_relu")[1]
    assert leaky(torch.tensor(-1.0)).item() == pytest.approx(-0.2)


@pytest.mark.parametrize("sizes", [(5,), (), (5, 0), (5, 2.5), (5, -1, 3)])
def test_sizes_that_make_no_network_are_refused(sizes):
    with pytest.raises(ValueError, match=r"input and an output size|a layer size must be"):
        mlp(sizes)


# Convolutions


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The formula of `conv_encoder`, term by term: x (C, H, W), weight (O, C, 4, 4)."""
    (channels, height, width), outputs = x.shape, len(weight)
    found = np.zeros((outputs, height // 2, width // 2))
    for o, i, j in np.ndindex(found.shape):
        found[o, i, j] = bias[o]
        for c, s, t in np.ndindex(channels, 4, 4):
            row, column = 2 * i + s - 1, 2 * j + t - 1
            if 0 <= row < height and 0 <= column < width:
                found[o, i, j] += weight[o, c, s, t] * x[c, row, column]
    return found


def spread(h: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The same connections the other way: h (O, H, W), weight (O, C, 4, 4)."""
    channels, (_, height, width) = weight.shape[1], h.shape
    found = np.zeros((channels, 2 * height, 2 * width)) + bias[:, None, None]
    for o, i, j in np.ndindex(h.shape):
        for c, s, t in np.ndindex(channels, 4, 4):
            row, column = 2 * i + s - 1, 2 * j + t - 1
            if 0 <= row < 2 * height and 0 <= column < 2 * width:
                found[c, row, column] += weight[o, c, s, t] * h[o, i, j]
    return found


def numbers(layer: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    nn.init.normal_(layer.bias, generator=generator(3))  # zero at first, so that a bias left out would not show
    return layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()


def test_the_encoder_is_strided_convolutions_as_its_formula_says():
    network = conv_encoder((3, 8, 12), (4, 5), 6, activation="tanh", generator=generator())
    x = torch.randn(2, 3, 8, 12, generator=generator(1))
    (first, second), linear = [each for each in network if isinstance(each, nn.Conv2d)], network[-1]
    network.double()
    wanted = []
    for row in x.double().numpy():
        hidden = np.tanh(convolved(np.tanh(convolved(row, *numbers(first))), *numbers(second)))
        weight, bias = numbers(linear)
        wanted.append(weight @ hidden.ravel() + bias)
    found = network(x.double())
    assert found.shape == (2, 6)
    np.testing.assert_allclose(found.detach().numpy(), np.array(wanted), atol=1e-12)
    assert [type(each).__name__ for each in network] == ["Conv2d", "Tanh", "Conv2d", "Tanh", "Flatten", "Linear"]


def test_the_decoder_spreads_over_the_same_connections_in_reverse():
    network = conv_decoder((3, 8, 12), (4, 5), 6, activation="leaky_relu", generator=generator()).double()
    linear, (first, second) = network[0], [each for each in network if isinstance(each, nn.ConvTranspose2d)]
    z = torch.randn(2, 6, generator=generator(1), dtype=torch.float64)
    wanted = []
    for row in z.numpy():
        weight, bias = numbers(linear)
        hidden = (weight @ row + bias).reshape(5, 2, 3)
        hidden = np.maximum(hidden, 0.2 * hidden)
        hidden = spread(hidden, *numbers(first))
        wanted.append(spread(np.maximum(hidden, 0.2 * hidden), *numbers(second)))
    found = network(z)
    assert found.shape == (2, 3, 8, 12)
    np.testing.assert_allclose(found.detach().numpy(), np.array(wanted), atol=1e-12)
    assert not isinstance(network[-1], nn.ReLU | nn.Sigmoid)


def test_an_image_moved_by_a_stride_gives_features_moved_by_one():
    network = conv_encoder((1, 32, 32), (4, 6), 2, generator=generator())[:4]
    x = torch.zeros(1, 1, 32, 32)
    x[..., 10:18, 10:18] = torch.rand(8, 8, generator=generator(1))
    moved = network(torch.roll(x, (4, 8), (2, 3)))
    torch.testing.assert_close(moved, torch.roll(network(x), (1, 2), (2, 3)))
    assert (moved - network(x)).abs().max() > 0.01


@pytest.mark.parametrize("make", [conv_encoder, conv_decoder])
def test_first_weights_of_convolutions_keep_the_size_of_what_goes_through(make):
    network = make((48, 16, 16), (64, 80), 10, generator=generator())
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            fan_in = {
                nn.Conv2d: lambda each: 16 * each.in_channels,
                # Stride 2: of the 4 x 4 weights 2 x 2 meet in a pixel.
                nn.ConvTranspose2d: lambda each: 4 * each.in_channels,
                nn.Linear: lambda each: each.in_features,
            }[type(layer)](layer)
            bound = 1 / math.sqrt(fan_in)
            assert 0.95 * bound < layer.weight.abs().max() <= bound and not layer.bias.any()
            x = torch.randn(50, *(fan_in,) if isinstance(layer, nn.Linear) else (layer.in_channels, 12, 12))
            inner = layer(x)[..., 2:-2, 2:-2] if x.ndim == 4 else layer(x)
            # Independent inputs of variance 1: fan_in terms of variance 1 / (3 fan_in).
            assert inner.var().item() == pytest.approx(1 / 3, rel=0.2)


def test_networks_repeat_with_their_generator_and_batch_norm_is_there_only_if_asked_for():
    one, other = (conv_encoder((3, 8, 8), (4,), 2, generator=generator(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    for make in (conv_encoder, conv_decoder):
        assert not any(isinstance(each, nn.BatchNorm2d) for each in make((3, 8, 8), (4, 5), 2))
        names = [type(each).__name__ for each in make((3, 8, 8), (4, 5), 2, batch_norm=True)]
        assert names.count("BatchNorm2d") == 2
        assert all(names[i + 1] == "ReLU" for i, name in enumerate(names) if name == "BatchNorm2d")
        network = make((3, 8, 8), (4, 5), 2, batch_norm=True)
        assert network(torch.zeros(3, *((3, 8, 8) if make is conv_encoder else (2,)))).isfinite().all()


@pytest.mark.parametrize("make", [conv_encoder, conv_decoder])
@pytest.mark.parametrize(
    ("data_dim", "channels", "said"),
    [
        (
            (1, 28, 28),
            (8, 8, 8),
            "3 convolutions .* 28 x 28 pixels halve 2 times: give 2 channels at most, or images of 32 x 32",
        ),
        ((3, 32, 30), (8, 8), "32 x 30 pixels halve 1 times: give 1 channels at most, or images of 32 x 32"),
        ((1, 15, 16), (8,), "halve 0 times: give no channels at most, or images of 16 x 16"),
        (784, (8,), r"shape \(C, H, W\), such as \(1, 28, 28\), not data_dim=784"),
        ((28, 28), (8,), "a number of pixels D or a shape"),
        ((1, 28, 0), (8,), "at least 1"),
        ((1, 28, 28), (), "channels are empty"),
        ((1, 28, 28), (8, 2.5), "at least 1"),
        ((1, 28, 28), 8, "sequence of widths"),
    ],
)
def test_sizes_that_do_not_halve_are_refused_with_those_that_do(make, data_dim, channels, said):
    with pytest.raises(ValueError, match=said):
        make(data_dim, channels, 4)


def test_what_the_refusal_offers_works():
    conv_encoder((1, 28, 28), (8, 8), 4)
    conv_encoder((1, 32, 32), (8, 8, 8), 4)
    with pytest.raises(ValueError, match="unknown activation 'gelu'"):
        conv_encoder((1, 28, 28), (8,), 4, activation="gelu")
    with pytest.raises(ValueError, match="at least 1"):
        conv_decoder((1, 28, 28), (8,), 0)


COLOUR = {"data_dim": (3, 8, 8), "hidden_dims": (), "latent_dim": 2, "channels": (4, 5)}


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "discretised_logistic"])
@pytest.mark.parametrize("more", [{}, {"condition_dim": 3}])
def test_a_convolutional_model_is_trained_saved_built_again_and_loaded(tmp_path, likelihood, more):
    config = COLOUR | {"likelihood": likelihood} | more
    model = pretrained.build(config, seed=1)
    assert isinstance(model, CVAE if more else VAE) and isinstance(model.encoder[0], nn.Conv2d)
    x = (torch.rand(40, 3, 8, 8, generator=generator()) * 255).round() / 255
    y = torch.arange(40) % 3 if more else None
    history = fit(model, x, y=y, epochs=2, batch_size=20, checkpoint=tmp_path / "a.safetensors", progress=False)
    assert len(history.elbo) == 2 and all(math.isfinite(each) for each in history.elbo)
    again = pretrained.build(checkpoints.peek(tmp_path / "a.safetensors")["config"], seed=2)
    checkpoints.load(tmp_path / "a.safetensors", again)
    given = (x,) if y is None else (x, y)
    assert torch.equal(again.reconstruct(*given), model.reconstruct(*given))
    assert again.reconstruct(*given).shape == x.shape
    assert again.config == model.config


def test_a_model_of_other_channels_is_refused(tmp_path):
    model = pretrained.build(COLOUR)
    checkpoints.save(tmp_path / "a.safetensors", model)
    with pytest.raises(checkpoints.CheckpointError, match="do not fit"):
        checkpoints.load(tmp_path / "a.safetensors", pretrained.build(COLOUR | {"channels": (4, 6)}))
    with pytest.raises(ValueError, match="belong to a model without channels"):
        pretrained.build(COLOUR | {"hidden_dims": (20,)})
    with pytest.raises(ValueError, match=r"shape \(C, H, W\)"):
        pretrained.build(COLOUR | {"data_dim": 192})
    seeds = [pretrained.build(COLOUR, seed=seed).encoder[0].weight for seed in (0, 0, 1)]
    assert torch.equal(seeds[0], seeds[1]) and not torch.equal(seeds[0], seeds[2])
