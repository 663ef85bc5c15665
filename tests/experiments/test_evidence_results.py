"""The stored log evidence of chapter 10: where it comes from, what must hold in it, and what its script measures."""

import datetime
import json
import math
import sys
from pathlib import Path

import pytest
import torch

from experiments import measure_evidence as tool
from vaelib.vae import VAE

ROOT = Path(__file__).resolve().parents[2]
PARTS = json.loads(tool.RESULTS.read_text(encoding="utf-8"))["parts"]


@pytest.fixture
def small(monkeypatch):
    """A model and images of 64 pixels in the place of those that ship."""
    model = VAE(64, (8,), 3, seed=1)
    monkeypatch.setattr(tool.pretrained, "load", lambda name: model)
    # Not the seed that binarises them: the same uniform numbers twice would make every pixel black.
    grey = torch.rand(40, 8, 8, generator=torch.Generator().manual_seed(tool.SEED + 1))
    monkeypatch.setattr(tool.data, "load", lambda name, split: tool.data.ImageData("small", grey, torch.zeros(40)))
    monkeypatch.setattr(tool, "SAMPLES", (1, 20))
    return model


def test_all_parts_are_there_and_say_how_they_were_measured():
    assert set(PARTS) == set(tool.PARTS)
    for name, part in PARTS.items():
        assert part["command"] == f"python -m experiments.measure_evidence {name}"
        assert isinstance(part["seed"], int) and part["threads"] >= 1
        assert all(part[key] for key in ("device", "vaelib", "torch", "python", "cpu_minutes"))
        datetime.date.fromisoformat(part["date"])


@pytest.mark.parametrize("name", ["vae", "iwae"])
def test_the_stored_bounds_rise_with_the_number_of_samples_and_are_of_all_images(name):
    part = PARTS[name]
    means = [found["mean"] for found in part["bounds"].values()]
    assert list(part["bounds"]) == [str(s) for s in (1, 5, 50, 100, 500, 5000)]
    assert means == sorted(means) and part["images"] == 10_000
    # The first 1,000 images are a part of the whole: their mean differs by the standard error of 1,000 images.
    first = torch.tensor(part["first_images"])
    assert abs(first.mean() - means[-1]) < 5 * first.std() / math.sqrt(len(first))
    assert part["active_units"] == sum(a > 0.01 for a in part["unit_variances"])


def test_the_cost_is_within_what_the_book_promises():
    cost = PARTS["cost"]
    assert (cost["images"], cost["samples"]) == (10_000, 5000)
    assert cost["peak_memory_mb"] < 2000


def test_a_small_model_is_measured_with_bounds_that_rise_and_a_mean_over_images(small):
    part = tool.measure_model("vae")
    assert part["images"] == 40 and part["bounds"]["1"]["mean"] < part["bounds"]["20"]["mean"]
    x = tool.load_test("at random")
    assert set(x.unique().tolist()) == {0.0, 1.0} and torch.equal(x, tool.load_test("at random"))
    oracle = tool.evaluation.log_evidence(small, x, 20).double()
    # Rounded to three digits.
    assert part["bounds"]["20"]["mean"] == pytest.approx(oracle.mean().item(), abs=1e-3)
    assert part["bounds"]["20"]["standard_error"] == pytest.approx(oracle.std().item() / math.sqrt(40), abs=1e-3)


def test_the_number_at_the_mean_takes_no_sample(small):
    with torch.no_grad():
        small.encoder[-1].weight[3:], small.encoder[-1].bias[3:] = 0, -60
    x = tool.load_test("grey")
    # With a posterior as narrow as a point, sampling and the mean are the same.
    with torch.no_grad():
        assert torch.allclose(tool.at_mean(small, x), small.elbo(x).elbo, atol=1e-3)


def test_pixels_are_measured_as_thresholded_and_as_grey(small, monkeypatch):
    monkeypatch.setattr(tool, "FEWER", 10)
    part = tool.measure_pixels()
    assert set(part["rows"]) == {"threshold", "grey"}
    assert all(row["gain_100_to_5000"]["images"] == 10 for row in part["rows"].values())
    assert torch.equal(tool.load_test("threshold"), (tool.load_test("grey") > 0.5).float())


def test_parts_are_merged_one_by_one_and_an_unknown_one_is_refused(small, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tool, "RESULTS", tmp_path / "evidence.json")
    monkeypatch.setitem(tool.PARTS, "cost", lambda: tool.measure_cost(8, 30, 4))
    for part in ("vae", "cost"):
        monkeypatch.setattr(sys, "argv", ["measure_evidence.py", part])
        tool.main()
    stored = json.loads(tool.RESULTS.read_text(encoding="utf-8"))["parts"]
    assert set(stored) == {"vae", "cost"} and stored["cost"]["images"] == 8
    monkeypatch.setattr(sys, "argv", ["measure_evidence.py", "speed"])
    with pytest.raises(SystemExit, match="no such part: speed"):
        tool.main()
