"""The stored axes of beta-VAEs, and small runs of the script that measures them."""

import pytest
import torch

from experiments import measure_axes as script
from experiments import shared

STORED = shared.read(script.RESULTS)
PART = STORED["parts"]["blobs"]


def test_the_stored_part_says_how_it_was_made_and_chose_on_other_seeds() -> None:
    assert {"question", "rivals", "tuning", "evaluation"} <= set(STORED)
    assert PART["command"] == "python -m experiments.measure_axes" and PART["seeds"] == script.SEEDS
    assert not set(script.TUNING) & set(script.SEEDS)
    for tuning in PART["tuning"].values():
        for beta, by_rate in tuning["objective"].items():
            assert tuning["rates"][beta] == float(min(by_rate, key=by_rate.__getitem__))
        assert tuning["beta"] == float(max(tuning["gaps"], key=tuning["gaps"].__getitem__))


def test_differences_from_the_threshold_follow_from_the_stored_runs() -> None:
    for spread, group in PART["runs"].items():
        for kind, one in group.items():
            assert len(one["gap"]) == len(script.SEEDS)
            assert PART["above"][spread][kind] == script.interval([value - 0.9 for value in one["gap"]])


def test_the_gap_of_noise_is_near_zero_where_the_planned_score_is_not() -> None:
    found = script.calibrate(50)
    # a squared correlation of 1,000 independent pairs is 1/1,000 in the mean
    assert found["gap"]["noise, highest"] < 0.03 and found["planned"]["noise"] > 0.5
    for score in found.values():
        assert score["factors"] > 0.99 and score["turned by 45 degrees"] < 0.05


def test_another_sigma_in_the_place_of_beta_gives_the_same_training() -> None:
    # the objective of one is 4 times that of the other, which Adam's step does not see but for its 1e-8
    pair = [script.Case("unequal", 4.0, 0.1, 0.01, 0), script.Case("unequal", 1.0, 0.2, 0.01, 0)]
    one, other = script.train(pair, 30)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-2)  # rounding over 30 steps
    [third] = script.train([script.Case("unequal", 4.0, 0.2, 0.01, 0)], 30)
    weights = [model.encoder[0].weight for model in (one, other, third)]
    assert (weights[0] - weights[2]).norm() > 10 * (weights[0] - weights[1]).norm()


def test_a_stored_run_is_found_again_from_scratch() -> None:
    rate = PART["tuning"]["unequal"]["rates"]["16"]
    case = script.Case("unequal", 16.0, script.SIGMA, rate, script.SEEDS[0])
    [row] = script.run([case], script.STEPS)
    stored = PART["runs"]["unequal"]["beta 16"]
    # other roundings grow in training; trainings that find the axes lie between 0.9 and 1
    assert row["gap"] == pytest.approx(stored["gap"][0], abs=0.05)
    assert row["kl"] == pytest.approx(stored["kl"][0], abs=0.1)
