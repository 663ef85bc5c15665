"""Multilayer perceptrons: their layers, their first weights, and sizes that can't be right."""

import pytest
import torch
from torch import nn

from vaelib.networks import mlp


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
