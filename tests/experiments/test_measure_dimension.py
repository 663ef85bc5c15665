"""The stored results for the number of latent dimensions, and small runs of the script that makes them."""

import json
from pathlib import Path

import pytest
import torch

from experiments import measure_dimension as script
from vaelib import data
from vaelib.vae import VAE

PATH = Path(__file__).resolve().parents[2] / "book/results/dimension.json"
STORED = json.loads(PATH.read_text(encoding="utf-8")) if PATH.is_file() else {}


def test_each_stored_part_says_how_it_was_made_and_which_rate_was_the_best() -> None:
    assert {"question", "rivals", "tuning", "evaluation", "yes"} <= set(STORED)
    for name, part in STORED["parts"].items():
        assert {"command", "provenance", "cpu_minutes", "epochs", "validation"} <= set(part)
        if "runs" in part:
            best = script.chosen(part["validation"])
            assert part["learning_rate"] == pytest.approx(best)
            alone = part["latent_dim"] == script.MOST or name in ("1000 annealed", "20 annealed")
            assert len(part["runs"]) == (1 if alone else 3)


def test_stored_differences_and_spread_follow_from_the_stored_runs() -> None:
    assert STORED["differences"] == script.differences(STORED["parts"])
    assert STORED["spread"] == script.spread(STORED["parts"])


def test_a_stored_run_is_found_again_from_scratch() -> None:
    try:
        images, test = data.load("mnist"), data.load("mnist", "test")
    except data.DataNotFoundError:
        pytest.skip("MNIST is not at hand")
    part = STORED["parts"]["2"]
    model = script.train(images.images, 2, part["learning_rate"], seed=0)
    # Other roundings grow in training; two neighbouring K differ by many times as much.
    assert -script.mean_elbo(model, test.images) == pytest.approx(part["runs"][0]["-ELBO"], abs=1.0)


def test_calibration_is_found_again() -> None:
    try:
        images, test = data.load("mnist"), data.load("mnist", "test")
    except data.DataNotFoundError:
        pytest.skip("MNIST is not at hand")
    found = script.calibration(images, test)
    for name, looks in STORED["parts"]["1"]["calibration"].items():
        assert found[name] == pytest.approx(looks, abs=2e-3)  # sums of float32, in another order


def test_kl_by_unit_sums_to_the_models_own() -> None:
    digits = data.load("digits", "test")
    model = VAE(64, (16,), 3, seed=1)
    with torch.no_grad():
        total = model.elbo(digits.images).kl.mean()
    assert script.by_unit(model, digits).shape == (3,)
    torch.testing.assert_close(script.by_unit(model, digits).sum(), total, rtol=1e-4, atol=1e-5)


def test_a_run_in_halves_is_the_run_in_one(tmp_path: Path) -> None:
    x = data.load("digits").images[:600]
    whole = script.train(x, 3, 5e-3, seed=1, epochs=4)
    path = tmp_path / "runs/half.safetensors"
    assert script.train_in_halves(x, 3, 5e-3, 1, 4, path) is None and path.is_file()
    found = script.train_in_halves(x, 3, 5e-3, 1, 4, path)
    assert found is not None and not path.is_file()
    for one, other in zip(whole.parameters(), found[0].parameters(), strict=True):
        assert torch.equal(one, other)


def test_black_images_are_flat_and_copies_lie_at_no_distance() -> None:
    x = data.load("digits").images
    assert script.looks(x[:50], x, x)["distance"] == pytest.approx(0, abs=2e-3)  # cdist by a product of matrices
    assert script.looks(torch.zeros(1, 8, 8), x, x)["sharpness"] == 0
    assert script.looks(x, x[:10], x)["sharpness"] == 1


def test_script_runs_on_the_digits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(script, "RESULTS", tmp_path / "dimension.json")
    monkeypatch.setattr(script, "RATES", (5e-3, 1e-2))
    monkeypatch.setattr(script, "EPOCHS", 2)
    monkeypatch.setattr(script, "MOST", 40)
    monkeypatch.setattr(script, "BESIDES", {"40 annealed": {"annealed": True}, "20 longer": {"epochs": 4}})
    images, test = data.load("digits"), data.load("digits", "test")
    for name in ("2", "20", "40 rate 0.005", "40 rate 0.01", "40", "40 annealed", "20 longer"):
        part = script.measure(name, images, test)
        assert part is not None
        script.shared.store(script.RESULTS, part, "parts", name)
    parts = script.shared.read(script.RESULTS)["parts"]
    assert [len(parts[name]["runs"]) for name in ("2", "20", "40")] == [3, 3, 1]
    assert set(parts["40"]["validation"]) == {"0.005", "0.01"}
    found = script.differences(parts)
    assert found["40"]["-ELBO"]["se"] is None and found["2"]["-ELBO"]["se"] > 0
    assert script.spread(parts)["KL"] > 0
