"""The stored comparison of samples of chapter 7, and a small run of the script that makes it."""

import json
from pathlib import Path

import pytest
import torch

from experiments import measure_samples
from vaelib import data
from vaelib.vae import VAE

ROOT = Path(__file__).resolve().parents[2]
SAID = {"command", "minutes", "processor", "threads", "device", "vaelib", "torch", "python", "code", "date"}


@pytest.fixture(scope="module")
def stored() -> dict:
    return json.loads((ROOT / "book/results/samples.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    return data.load("digits").images.flatten(1), data.load("digits", "test").images.flatten(1)


@pytest.fixture(scope="module")
def plane(digits: tuple[torch.Tensor, torch.Tensor]) -> VAE:
    return measure_samples.train("autoencoder", digits[0], 2, 0, {"learning_rate": 5e-3, "epochs": 20})


def test_each_stored_part_says_how_it_was_made(stored: dict) -> None:
    assert stored["question"].startswith("Question:")
    for name, part in stored.items():
        if name != "question":
            assert set(part) >= SAID, name


def test_each_network_was_tuned_over_as_many_settings(stored: dict) -> None:
    for kind in measure_samples.GRIDS:
        tried = stored["tuning"][kind]["tried"] + stored[f"longer {kind}"][kind]["tried"]
        assert len(tried) == 14
        chosen = measure_samples.tuned(stored)[kind]
        assert measure_samples.best_nll(chosen) == min(min(each["nll"].values()) for each in tried)


def test_stored_differences_follow_from_the_stored_seeds(stored: dict) -> None:
    """A comparison of all seeds is stored only where each of them is."""
    for name in stored.keys() & {"K=8", "K=2"}:
        runs = [stored[f"{name} seed {seed}"]["measures"] for seed in measure_samples.SEEDS]
        assert measure_samples.differences(runs) == stored[name]["differences"]
    if "chapter" in stored:
        assert measure_samples.differences(stored["chapter"]["runs"]) == stored["chapter"]["differences"]
    assert "K=8 seed 0" in stored


def test_models_without_a_network_give_what_is_stored(stored: dict) -> None:
    parts = measure_samples.tuned(stored)
    settings = {
        kind: {**parts[kind], "setting": {"learning_rate": 5e-3, "epochs": 1}} for kind in measure_samples.GRIDS
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure_samples, "GRIDS", {})
        again = measure_samples.compare({**parts, **settings}, 8, 0)
    for name in ("mean image (no latent variable)", "mixture of Bernoullis", "test images", "black image"):
        # The classifier is trained again: another processor's rounding may move a few of 1,000 images.
        assert again[name][0] == pytest.approx(stored["K=8 seed 0"]["measures"][name][0], abs=0.01)
        assert again[name][1] == pytest.approx(stored["K=8 seed 0"]["measures"][name][1], abs=0.03)
        assert again[name][2] == pytest.approx(stored["K=8 seed 0"]["measures"][name][2], abs=0.02)


@pytest.mark.parametrize("density", ["N(0, I)", "full", "mixture"])
def test_importance_sampling_agrees_with_quadrature_in_the_plane(
    plane: VAE, digits: tuple[torch.Tensor, torch.Tensor], density: str
) -> None:
    x = measure_samples.binarised(digits[1][:60], 0)
    prior = measure_samples.densities(plane, digits[0], 5, False)[density]
    with torch.no_grad():
        starts = plane.encode(digits[1][:60]).mu
    exact = measure_samples.minus_log_p_on_grid(plane, prior, x)
    sampled = measure_samples.minus_log_p(plane, prior, x, starts)
    # 60 images, each known to about 0.05; one whose posterior has several peaks may be farther off.
    assert (sampled - exact).mean().abs() < 0.05
    assert (sampled - exact).abs().max() < 2
    # Another model's images have another value: the agreement says something.
    assert (exact.flip(0) - exact).abs().mean() > 1


def test_quadrature_of_a_constant_decoder_is_independent_pixels(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = VAE(64, [4], 2)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.zero_()
    prior = measure_samples.normal(torch.zeros(2), torch.eye(2))
    x = measure_samples.binarised(digits[1][:5], 0)
    found = measure_samples.minus_log_p_on_grid(model, prior, x)
    # 64 fair coins; the grid reaches to about 5 standard deviations.
    torch.testing.assert_close(found, torch.full((5,), 64 * torch.log(torch.tensor(2.0)).item()), atol=1e-2, rtol=0)


def test_probabilities_of_a_mixture_of_bernoullis_sum_to_one() -> None:
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6)
    log_weight, logits = torch.tensor([0.3, 0.7]).log(), torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    total = (-measure_samples.pixels_minus_log_p(log_weight, logits, every)).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-5)  # float32


def test_differences_name_the_better_one() -> None:
    def run(ours: float, rival: float) -> dict:
        return {"vae: N(0, I)": [ours] * 3, "vae: mixture": [ours] * 3, "autoencoder: mixture": [rival] * 3,
                "autoencoder: reconstructions": [0.0] * 3, "autoencoder: mixture, blurred": [0.0] * 3}  # fmt: skip

    def verdict(pairs: list[tuple[float, float]]) -> str:
        return measure_samples.differences([run(*pair) for pair in pairs])["prior"]["nll"]["verdict"]

    assert verdict([(1.0, 2.0), (1.1, 2.0), (0.9, 2.1)]) == "VAE better"
    assert verdict([(2.0, 1.0), (2.1, 1.0), (2.0, 0.9)]) == "rival better"
    assert verdict([(1.0, 2.0), (2.0, 1.0), (1.0, 1.0)]) == "not decided"
