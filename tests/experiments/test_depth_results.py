"""The stored log evidence of deep and shallow VAEs, and a small run of the script that measures it."""

import pytest
import torch

from experiments import measure_depth as script
from experiments import shared
from vaelib import data
from vaelib.vae import VAE

STORED = shared.read(script.RESULTS)
PARTS = STORED["parts"]
ACTIVATIONS = {name: part for name, part in PARTS.items() if name != "rising"}


def test_each_part_says_how_it_was_made_and_chose_its_rates_by_other_images() -> None:
    assert {"question", "rivals", "tuning", "evaluation"} <= set(STORED)
    assert PARTS.keys() == {"tanh", "relu", "rising"}
    for name, part in ACTIVATIONS.items():
        assert part["command"] == f"python -m experiments.measure_depth {name}" and part["seeds"] == script.SEEDS
        for networks in part["networks"].values():
            assert networks.keys() == script.SHAPES.keys()
            for one in networks.values():
                choosing = {float(rate): value for rate, value in one["choosing"].items()}
                assert one["rate"] == pytest.approx(max(choosing, key=choosing.__getitem__), rel=1e-3)
                assert set(script.RATES) <= set(choosing) and len(one["test"]) == len(script.SEEDS)


def test_differences_follow_from_the_stored_runs() -> None:
    for part in ACTIVATIONS.values():
        for steps, found in part["differences"].items():
            for pair, stored in found.items():
                one, other = pair.split(" minus ")
                networks = part["networks"][steps]
                assert script.difference(networks[one]["test"], networks[other]["test"]) == stored


def test_a_model_is_the_same_beside_others_as_alone() -> None:
    x = script.images()[0]
    beside = script.train((8,), "tanh", [0.01, 0.03], [0, 1], 20, x)[1][0]
    alone = script.train((8,), "tanh", [0.03], [0], 20, x)[0][0]
    for one, other in zip(beside.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)  # rounding of batched products over 20 steps


def test_evidence_on_the_grid_is_that_of_a_decoder_without_a_code() -> None:
    model, x = VAE(64, (), 2), script.images()[2]
    with torch.no_grad():
        model.decoder[0].weight.zero_()
        exact = model.log_likelihood(x, model.decode(torch.zeros(len(x), 2))).mean().item()
    # the grid ends at 4.8 standard deviations, beyond which lie 3e-6 of the prior
    assert script.log_evidence(model, x) == pytest.approx(exact, abs=1e-3)


def test_the_script_runs_on_the_digits_and_looks_beyond_an_edge() -> None:
    fitting, choosing, test = script.images()
    assert len(data.load("digits").images) == len(fitting) + len(choosing)
    found = script.measure("none", "tanh", 5, (fitting, choosing, test), [0, 1, 2], rates=[0.0001, 0.001])
    # so short a training learns most at the highest rate
    assert "0.003" in found["choosing"] and len(found["test"]) == 3 and found["weights"] == 452


def test_a_stored_run_is_found_again_from_scratch() -> None:
    fitting, _, test = script.images()
    stored = PARTS["tanh"]["networks"]["300"]["none"]
    [[model]] = script.train((), "tanh", [stored["rate"]], [0], 300, fitting)
    # Other roundings grow in training; seeds differ by 0.01, networks by a tenth.
    assert script.log_evidence(model, test) == pytest.approx(stored["test"][0], abs=0.05)


def test_the_rising_weight_has_rates_of_its_own_and_the_whole_weight_those_stored_before() -> None:
    part = PARTS["rising"]
    assert part["command"] == "python -m experiments.measure_depth rising" and part["seeds"] == script.SEEDS
    for activation, groups in part["kinds"].items():
        for name in ("one", "four"):
            rising, whole = groups["rising"][name], groups["whole"][name]
            choosing = {float(rate): value for rate, value in rising["choosing"].items()}
            assert rising["rate"] == pytest.approx(max(choosing, key=choosing.__getitem__), rel=1e-3)
            assert set(script.RATES) <= set(choosing)
            before = PARTS[activation]["networks"]["1200"][name]
            assert whole["rate"] == before["rate"]
            assert whole["test"] == pytest.approx(before["test"], abs=0.05)
        for weight in ("whole", "rising"):
            tests = (groups[weight][name]["test"] for name in ("four", "one"))
            assert script.difference(*tests) == groups["differences"][f"four minus one, {weight}"]


def test_a_rising_weight_begins_without_the_kl() -> None:
    x = script.images()[0][:200]
    # with a weight that stays below a hundredth nothing keeps the codes near the prior
    free, whole = (script.train((8,), "tanh", [0.03], [0], 100, x, rise)[0][0] for rise in (100.0, 0.0))
    assert script.smallest_kl(free, x) > script.smallest_kl(whole, x) + 0.5
    with torch.no_grad():
        whole.encoder[-1].weight.zero_()
        whole.encoder[-1].bias.zero_()
    assert script.smallest_kl(whole, x) == 0
