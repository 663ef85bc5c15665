"""The stored ablation of chapter 9's recipe, and a small run of the script that makes it."""

import json
import statistics
from pathlib import Path

import pytest
import torch

from experiments import measure_ablation as script
from vaelib import data
from vaelib.training import fit
from vaelib.vae import VAE

PATH = Path(__file__).resolve().parents[2] / "book/results/ablation.json"
STORED = json.loads(PATH.read_text(encoding="utf-8"))
GROUPS = [STORED, STORED["small"]]


def test_each_stored_arm_says_how_it_was_made_and_chose_its_rate_on_validation_images() -> None:
    assert {"question", "rivals", "tuning", "evaluation"} <= set(STORED)
    assert STORED["arms"].keys() == script.ARMS.keys()
    for group in GROUPS:
        for name, arm in group["arms"].items():
            assert arm["measures"] == list(script.ARMS[name]) and {"command", "provenance", "cpu_minutes"} <= set(arm)
            if name != "published":
                assert arm["learning_rate"] == float(min(arm["validation"], key=arm["validation"].get))
                assert {str(rate) for rate in script.RATES} <= set(arm["validation"])


def test_differences_are_paired_and_follow_from_the_stored_runs() -> None:
    for group in GROUPS:
        assert group["differences"] == script.differences(group["arms"])
    one, other = {"test": [3.0, 5.0, 4.0, 9.0]}, {"test": [1.0, 2.0, 3.0]}
    pairs = [2.0, 3.0, 1.0]
    expected = {"mean": 2.0, "se": round(statistics.stdev(pairs) / 3**0.5, 3), "seeds": 3}
    assert script.difference(one, other) == expected


def test_with_all_measures_the_loop_is_that_of_fit_and_without_one_it_is_not() -> None:
    digits = data.load("digits")
    model = VAE(64, seed=2, **script.MODEL)
    fit(model, digits, epochs=3, batch_size=128, learning_rate=5e-3, seed=2, device="cpu", progress=False)
    wanted = torch.cat([each.flatten() for each in model.parameters()])
    for arm in ("recipe", "without mean", "without beta2", "without warm-up", "without decay"):
        trained = script.train(digits.images, script.ARMS[arm], 5e-3, seed=2)
        weights = torch.cat([each.flatten() for each in trained.parameters()])
        # the same sums, perhaps in another order
        assert torch.allclose(weights, wanted, atol=1e-5) == (arm == "recipe"), arm


def test_the_rate_rises_and_falls_where_the_measures_say_so() -> None:
    assert [script.factor(t, 20, ("warm-up",)) for t in (0, 1, 19)] == [0.5, 1, 1]
    assert [script.factor(t, 20, ("decay",)) for t in (0, 10, 19)] == [1, 0.5, 0.05]
    assert [script.factor(t, 20, ()) for t in (0, 19)] == [1, 1]


def test_script_runs_on_the_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "RATES", [1e-3, 2e-3])
    images, test = data.load("digits"), data.load("digits", "test")
    found = {arm: script.measure(arm, images, test, held_out=200, seeds=[0, 1]) for arm in ("recipe", "none")}
    assert len(found["recipe"]["validation"]) >= 2 and len(found["none"]["test"]) == 2
    assert script.differences(found)["none"]["against"] == "recipe"


def test_a_stored_run_is_found_again_from_scratch() -> None:
    try:
        images, test = data.load("mnist"), data.load("mnist", "test")
    except data.DataNotFoundError:
        pytest.skip("MNIST is not at hand")
    few, arm = images.subset(STORED["small"]["images"]), STORED["small"]["arms"]["recipe"]
    model = script.train(few.images, script.MEASURES, arm["learning_rate"], seed=0)
    # Other roundings grow in training: threads and processors change the last digits, never a tenth of the arms' gaps.
    assert -script.mean_elbo(model, test.images) == pytest.approx(arm["test"][0], abs=0.3)
