"""The stored measurements of chapter 14, and a small run of the script that makes them."""

import json
from pathlib import Path

import pytest
import torch

from experiments import measure_uses
from vaelib import data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def stored() -> dict:
    return json.loads((ROOT / "book/results/uses.json").read_text(encoding="utf-8"))


def test_each_stored_run_says_how_it_was_made(stored: dict) -> None:
    assert set(stored) == set(measure_uses.RUNS)
    for run in stored.values():
        assert {"command", "seed", "evaluation", "threads", "device", "vaelib", "torch", "python", "date"} <= set(run)


def test_stored_runs_used_the_settings_that_the_script_has_now(stored: dict) -> None:
    for name, settings in (("left out", measure_uses.LEFT_OUT), ("denoising", measure_uses.DENOISING)):
        assert {key: stored[name][key] for key in settings} | {"images": 0} == settings | {"images": 0}


def test_auroc_is_the_share_of_pairs_in_which_the_anomaly_scores_higher() -> None:
    generator = torch.Generator().manual_seed(0)
    anomalies, normal = torch.randn(40, generator=generator) + 0.5, torch.randn(60, generator=generator)
    pairs = (anomalies[:, None] > normal).double().mean().item()
    assert measure_uses.auroc(anomalies, normal) == pytest.approx(pairs, abs=1e-6)  # float32 division


def test_log_ratio_adds_what_independent_pixels_would_cost() -> None:
    digits = data.load("digits").images[:50].flatten(1)
    model = measure_uses.VAE(64, [8], 2)
    minus_elbo, log_ratio = measure_uses.scores(model, digits, digits)
    probability = digits.mean(0).double().clamp(1e-3, 1 - 1e-3)
    x = digits.double()
    alone = (x * probability.log() + (1 - x) * (1 - probability).log()).sum(1)
    torch.testing.assert_close((log_ratio - minus_elbo).double(), alone, atol=1e-3, rtol=0)  # float32 sums of 64


def test_script_runs_on_the_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(measure_uses.LEFT_OUT, "epochs", 1)
    monkeypatch.setitem(measure_uses.DENOISING, "epochs", 1)
    train, test = data.load("digits"), data.load("digits", "test")
    found = measure_uses.left_out(train, test, range(2))
    assert all(len(values) == 2 and 0 <= min(values) <= max(values) <= 1 for values in found["auroc"].values())
    errors = measure_uses.denoising(train, test)["error"]
    assert set(errors) == {"clipped", "unclipped"} and all(se > 0 for _, se in errors.values())
