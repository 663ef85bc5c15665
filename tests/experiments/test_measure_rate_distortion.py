"""The stored rate-distortion curves, and small runs of the script that makes them."""

import json
from pathlib import Path

import pytest
import torch

from experiments import measure_rate_distortion as script
from vaelib import data
from vaelib.vae import VAE

PATH = Path(__file__).resolve().parents[2] / "book/results/rate_distortion.json"
STORED = json.loads(PATH.read_text(encoding="utf-8")) if PATH.is_file() else {}


def test_each_stored_part_says_how_it_was_made() -> None:
    assert {"question", "rivals", "tuning", "evaluation", "yes"} <= set(STORED)
    for part in STORED["parts"].values():
        assert {"command", "provenance", "cpu_minutes", "seeds"} <= set(part)
    assert STORED["differences"] == script.differences(STORED["parts"])


def test_calibration_and_one_run_are_found_again_from_scratch() -> None:
    try:
        images = script.images_of(data.load("mnist"), data.load("mnist", "test"))
    except data.DataNotFoundError:
        pytest.skip("MNIST is not at hand")
    for name, found in script.calibration(images).items():
        assert found == pytest.approx(STORED["parts"]["calibration"][name], abs=2e-3), name
    part = STORED["parts"]["bernoulli"]
    model = script.train("bernoulli", 10.0, images["training"], part["learning_rate"], seed=0)
    again = script.measured("bernoulli", model, images["test"])
    # Other roundings grow in training; neighbouring betas differ by many times as much.
    assert again["distortion"] == pytest.approx(part["runs"]["10"][0]["distortion"], abs=1.5)


def test_more_blur_is_less_sharp_and_copies_are_neither() -> None:
    found = script.calibration(script.images_of(data.load("digits"), data.load("digits", "test")))
    assert found["test images"] == {"sharpness": 1.0, "grey": 1.0}
    assert max(found["mean image"]["sharpness"], found["blurred"]["sharpness"]) < 0.5
    assert found["noise"]["sharpness"] > 1
    assert found["mean of 10 neighbours"]["sharpness"] < 1 < found["mean of 10 neighbours"]["grey"]


def test_beta_with_a_fixed_sigma_is_another_sigma() -> None:
    """The gradients of log p - beta KL are beta times those of a VAE whose variance is beta times as large."""
    x = data.load("digits").images[:50].flatten(1)
    one, other = (VAE(64, (16,), 3, likelihood="gaussian", sigma=sigma, seed=1) for sigma in (0.3, 0.3 * 2**0.5))
    gradients = []
    for model, beta in ((one, 2.0), (other, 1.0)):
        terms = model.elbo(x, beta=beta, generator=torch.Generator().manual_seed(0))
        parts = torch.autograd.grad(terms.objective.mean() / beta, list(model.parameters()))
        gradients.append(torch.cat([each.flatten() for each in parts]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)  # float32


def test_a_gaussian_behind_a_sigmoid_has_the_density_of_that_mean_and_starts_at_the_mean_image() -> None:
    x, decoded = torch.rand(4, 6), torch.randn(4, 6)
    one = script.SigmoidMean(0.3)
    torch.testing.assert_close(one.log_prob(x, decoded), script.Gaussian(0.3).log_prob(x, torch.sigmoid(decoded)))
    torch.testing.assert_close(one.mean(one.start(torch.full((6,), 0.2))), torch.full((6,), 0.2))


def test_a_likelihood_beside_itself_is_nothing_and_beside_a_sharper_one_the_difference() -> None:
    def run(rate: float, sharpness: float) -> dict:
        return {"rate": rate, "reconstructions": {"sharpness": sharpness, "grey": 2.0}}

    other = {"1": [run(10, 0.6), run(10, 0.7)], "3": [run(5, 0.4), run(5, 0.5)]}
    assert script.beside(other["1"], other)["sharpness"] == {"mean": 0, "se": 0}
    found = script.beside([run(7.5, 0.4), run(7.5, 0.5)], other)
    assert found["sharpness"]["mean"] == pytest.approx(-0.1) and found["grey"]["mean"] == 0


def test_sharpness_at_a_rate_is_interpolated_between_neighbours() -> None:
    def run(rate: float, sharpness: float) -> list[dict]:
        return [{"rate": rate, "reconstructions": {"sharpness": sharpness}}]

    runs = {"1": run(10, 0.6), "3": run(5, 0.4)}
    assert script.at_rate(runs, 7.5) == pytest.approx(0.5)
    assert script.at_rate(runs, 11) is None


def test_script_runs_on_the_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "EPOCHS", 2)
    monkeypatch.setattr(script, "RATES", (5e-3,))
    monkeypatch.setattr(script, "SEEDS", (0, 1))
    images = script.images_of(data.load("digits"), data.load("digits", "test"))
    parts = {arm: script.measure(arm, images, (0.1, 1.0)) for arm in ("fixed", "bernoulli")}
    squashed = script.measure("sigmoid mean", images, (0.1, 1.0))["runs"]["1"][0]
    assert squashed["sigma"] == pytest.approx(0.3, abs=1e-4) and "rate" in squashed
    assert script.clipped(images, 5e-3)[0]["range"][1] > 0
    parts["autoencoders"] = {arm: script.measure(arm, images, (1.0,)) for arm in script.AUTOENCODERS}
    found = script.differences(parts)
    assert set(found) == {"bernoulli", "fixed", "sharpness"}
    assert found["fixed"]["0.1"]["-ELBO"]["se"] >= 0
    assert {"rate", "distortion", "L_200", "new images", "sigma"} <= set(parts["fixed"]["runs"]["1"][0])
