"""The stored bounds of chapter 10: their origin, what must hold in them, and that the script measures them."""

import datetime
import math

import pytest
import torch

from experiments import measure_bounds as tool
from experiments import shared
from vaelib.vae import VAE

PARTS = shared.read(tool.RESULTS)["parts"]


def test_all_parts_are_there_and_say_how_they_were_measured():
    assert set(PARTS) == set(tool.PARTS)
    for name, part in PARTS.items():
        assert part["command"] == f'python -m experiments.measure_bounds "{name}"'
        assert part["settings"] == tool.SETTINGS and part["seed"] == tool.SEED
        assert all(part[key] for key in ("device", "vaelib", "torch", "python", "cpu_minutes", "summary"))
        datetime.date.fromisoformat(part["date"])


def test_the_exact_model_is_measured_again_and_enclosed():
    found = tool.measure_exact()
    for steps, row in found["minus_exact"].items():
        stored = PARTS["exact"]["minus_exact"][steps]
        for side, sign in (("lower", -1), ("upper", 1)):
            # The same noise on every machine; a decision of a chain may turn on rounding.
            assert row[side]["mean"] == pytest.approx(stored[side]["mean"], abs=max(0.01, stored[side]["se"]))
            assert sign * row[side]["mean"] > -3 * row[side]["se"]
    assert abs(found["minus_exact"]["100"]["lower"]["mean"]) < 0.02


@pytest.mark.parametrize("name", [name for name in tool.PARTS if name != "exact"])
def test_the_stored_bounds_stand_in_the_order_that_theory_gives(name):
    part = PARTS[name]
    below = [part["below"][f"L_{s}"]["mean"] for s in tool.SAMPLES]
    assert part["images"] == tool.IMAGES and below == sorted(below, reverse=True) and below[-1] > 0
    rows = [part["annealed"][str(t)] for t in tool.TEMPERATURES]
    lower = [row["lower"]["mean"] for row in rows]
    assert lower == sorted(lower)
    if name.endswith("simulated"):
        upper = [row["upper"]["mean"] for row in rows]
        assert upper == sorted(upper, reverse=True)
        # An image is enclosed within noise: three standard errors.
        assert -3 * rows[-1]["apart"]["se"] < rows[-1]["apart"]["mean"] < 0.2


def test_equal_weights_are_that_weight_for_both_bounds_and_unequal_ones_part_them():
    equal = torch.full((4, 3), -90.0)
    assert torch.allclose(tool.lower(equal), equal[0]) and torch.allclose(tool.upper(equal), equal[0])
    unequal = torch.tensor([[-90.0], [-80.0]])
    assert tool.lower(unequal).item() == pytest.approx(-80 - math.log(2), abs=1e-3)
    assert tool.upper(unequal).item() == pytest.approx(-90 + math.log(2), abs=1e-3)


def test_a_small_model_is_enclosed_on_images_of_its_own(monkeypatch):
    model = VAE(64, (16,), 3, seed=1)
    monkeypatch.setattr(tool.pretrained, "load", lambda name: model)
    monkeypatch.setattr(tool, "IMAGES", 60)
    monkeypatch.setattr(tool, "TEMPERATURES", (5, 40))
    monkeypatch.setattr(tool, "SAMPLES", (1, 50, 5000))
    part = tool.measure_simulated("vae")
    narrow = part["annealed"]["40"]["apart"]
    # An untrained model is nearly linear: the bounds meet, and so does L_5000.
    assert abs(narrow["mean"]) < 0.05 and abs(part["below"]["L_5000"]["mean"]) < 0.05
    z, x = tool.simulated(model, 60, torch.Generator().manual_seed(tool.SEED + 1))
    assert set(x.unique().tolist()) == {0.0, 1.0} and z.shape == (60, 3)
    oracle = tool.evaluation.log_evidence(model, x, 1).mean().item()
    assert part["bounds"]["L_1"]["mean"] == pytest.approx(oracle, abs=1e-3)
