"""VAE against IWAE: what is stored says how it was made, and the script trains and compares what it says."""

import datetime
import json

import pytest
import torch

from experiments import measure_iwae as tool
from experiments import shared
from vaelib import data, evaluation, pretrained

PARTS = shared.read(tool.RESULTS)["parts"]


@pytest.fixture
def small(monkeypatch):
    """The digits in the place of MNIST, a small network, and few samples."""
    fitting = data.load("digits").subset(range(200))
    bits = data.binarize(data.load("digits", "test").images[:12], torch.Generator().manual_seed(5))
    monkeypatch.setattr(tool, "images", lambda: (fitting, bits, bits))
    monkeypatch.setattr(tool, "NETWORK", {"hidden_dims": (16,), "latent_dim": 3, "activation": "tanh"})
    monkeypatch.setattr(tool, "SAMPLES", (1, 50, 5000))
    monkeypatch.setattr(tool, "ANNEALED", {"n_temperatures": 10, "n_chains": 2, "step_size": 0.3})


def test_every_part_is_one_of_the_script_and_says_how_it_was_made():
    assert set(PARTS) <= set(tool.PARTS)
    for name, part in PARTS.items():
        assert part["command"] == f'python -m experiments.measure_iwae "{name}"'
        assert all(part[key] for key in ("device", "vaelib", "torch", "python", "cpu_minutes"))
        datetime.date.fromisoformat(part["date"])


def test_the_stored_tuning_has_the_settings_of_the_script():
    for way, settings in tool.WAYS.items():
        for part in tool.tuning(way, PARTS):
            assert part["learning_rate"] in settings["rates"] and part["seed"] == tool.TUNING_SEED
            assert all(part[key] == settings[key] for key in ("k", "batch_size"))
            assert part["epochs"] == settings["epochs"]["small"]


def test_stored_comparisons_follow_from_the_stored_parts():
    if "comparisons" in PARTS:
        again = json.loads(json.dumps(tool.comparisons()))
        assert {key: PARTS["comparisons"][key] for key in again} == again


def test_a_rate_is_chosen_by_validation_and_only_when_all_have_been_tried():
    parts = {
        f"tune vae {rate:g}": {"learning_rate": rate, "validation_l500": -90 - abs(rate - 3e-3)}
        for rate in tool.WAYS["vae"]["rates"]
    }
    assert tool.best_rate("vae", parts) == 3e-3
    with pytest.raises(SystemExit, match="tune vae first"):
        tool.best_rate("vae", dict(list(parts.items())[1:]))


def test_the_ways_train_on_their_bounds_and_are_measured_by_all_bounds(small, monkeypatch, tmp_path):
    monkeypatch.setattr(tool, "RESULTS", tmp_path / "iwae.json")
    for way in ("vae", "iwae"):
        for rate in tool.WAYS[way]["rates"]:
            shared.store(
                tool.RESULTS, {"learning_rate": rate, "validation_l500": rate}, "parts", f"tune {way} {rate:g}"
            )
    seen = []
    fit = tool.fit
    monkeypatch.setattr(tool, "fit", lambda *a, **settings: seen.append(settings) or fit(*a, **settings))
    for way in ("vae", "iwae"):
        part = tool.measure(way, "small", 1)
        assert seen[-1]["learning_rate"] == max(tool.WAYS[way]["rates"]) and seen[-1]["seed"] == 1
        assert (seen[-1]["objective"] is None) == (way == "vae")
        assert seen[-1]["epochs"] == tool.WAYS[way]["epochs"]["small"] and "schedule" not in seen[-1]
        assert part["bounds"]["L_1"] < part["bounds"]["L_50"] and len(part["images"]["annealed"]) == 12


def test_differences_are_paired_by_seed_and_by_image():
    def part(bound, images):
        return {"bounds": {"annealed": bound}, "images": {"annealed": images}}

    ours = [part(-90.0, [-80.0, -100.0]), part(-91.0, [-81.0, -101.0])]
    theirs = [part(-92.0, [-83.0, -101.0]), part(-94.0, [-84.0, -104.0])]
    found = tool.compare(ours, theirs)["annealed"]
    assert found["by_seed"] == [2, 3] and found["mean"] == 2.5 and found["se"] == 0.5
    # Image by image the mean differences are 3 and 2.
    assert found["se_images"] == 0.5


def test_a_stored_bound_of_a_shipped_model_comes_out_again():
    if "shipped vae" not in PARTS or any(file.state != "verified" for file in data.locate("mnist")):
        pytest.skip("no stored bound of a shipped model, or MNIST is not at hand")
    model = pretrained.load(tool.SHIPPED["vae"])
    found = evaluation.log_evidence(model, tool.images()[2], 50).mean().item()
    # Other noise: the standard error of L_50, a mean over 200 images, is 0.05 nats.
    assert found == pytest.approx(PARTS["shipped vae"]["bounds"]["L_50"], abs=0.3)
