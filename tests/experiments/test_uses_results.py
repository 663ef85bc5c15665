"""The stored measurements of chapter 14, and small runs of the scripts that make them, on digits."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import measure_anomaly, measure_completion, measure_denoising, measure_uses, shared
from vaelib import data
from vaelib.training import fit
from vaelib.vae import VAE

SCRIPTS = {
    "uses": measure_uses,
    "denoising": measure_denoising,
    "completion": measure_completion,
    "anomaly": measure_anomaly,
}
ORIGIN = {"command", "processor", "cpu_minutes", "evaluation", "threads", "device", "vaelib", "torch", "python", "date"}


@pytest.fixture(scope="module")
def digits() -> tuple[data.ImageData, data.ImageData]:
    return data.load("digits"), data.load("digits", "test")


@pytest.fixture(scope="module")
def model(digits: tuple[data.ImageData, data.ImageData]) -> VAE:
    model = VAE(64, [32], 2)
    fit(model, digits[0], epochs=20, learning_rate=1e-2, seed=0, device="cpu", progress=False)
    return model.requires_grad_(False)


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_stored_part_says_how_it_was_made(name: str) -> None:
    stored = shared.read(shared.results(name))
    assert set(stored) <= set(SCRIPTS[name].RUNS)
    for part, found in stored.items():
        assert set(found) >= ORIGIN
        assert found["command"] == f'python -m experiments.measure_{name} "{part}"'


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_states_its_question_before_its_measure_and_what_would_count_as_yes(name: str) -> None:
    doc = SCRIPTS[name].__doc__ or ""
    assert doc.index("Question") < doc.index("Measure:")
    assert "standard errors" in doc and "rivals" in doc.lower()


def test_settings_that_were_stored_are_those_of_the_scripts_now() -> None:
    uses, anomaly = shared.read(measure_uses.RESULTS), shared.read(measure_anomaly.RESULTS)
    pairs = [(found, getattr(measure_uses, name.upper())) for name, found in uses.items()]
    pairs += [(found, measure_anomaly.MODEL) for name, found in anomaly.items() if name != "together"]
    for stored, settings in pairs:
        assert {key: stored[key] for key in settings} == settings


def test_auroc_is_the_share_of_pairs_in_which_the_anomaly_scores_higher() -> None:
    generator = torch.Generator().manual_seed(0)
    anomalies = torch.randint(9, (40,), generator=generator).float() + 2
    normal = torch.randint(9, (60,), generator=generator).float()
    ahead = (anomalies[:, None] > normal).double() + 0.5 * (anomalies[:, None] == normal).double()
    assert measure_anomaly.auroc(anomalies, normal)[0] == pytest.approx(ahead.mean().item(), abs=1e-9)


def test_standard_error_of_an_auroc_is_its_spread_over_repetitions() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.randn(2, 80, generator=generator) for _ in range(400)]
    areas, errors = np.transpose([measure_anomaly.auroc(one + 0.5, other) for one, other in pairs])
    assert errors.mean() == pytest.approx(areas.std(), rel=0.15)  # 400 repetitions know a spread within 4%


def test_mutation_replaces_a_fifth_of_the_pixels_and_leaves_the_rest() -> None:
    x = torch.full((200, 64), 0.5)
    mutated = measure_anomaly.mutate(x, torch.Generator().manual_seed(0))
    changed = (mutated != x).double().mean().item()
    assert changed == pytest.approx(0.2, abs=0.02)  # 12,800 pixels: five standard errors of 0.0035
    assert mutated.min() >= 0 and mutated.max() <= 1


def test_regret_is_what_the_encoder_loses_and_none_where_it_is_at_the_optimum(model: VAE) -> None:
    x = data.load("digits", "test").images[:40].flatten(1)
    lost = measure_anomaly.regret(model, x, steps=200)
    exact = measure_uses.gaps(model, x, 0, measure_uses.grid_of(model))
    # The best Gaussian still misses the posterior by a little, and 20 draws measure with noise of some tenths of a nat.
    assert (lost < exact + 0.6).all() and lost.mean() > -0.05


def test_gap_by_the_grid_is_that_by_many_importance_samples(model: VAE) -> None:
    x = data.load("digits", "test").images[:30].flatten(1)
    by_grid = measure_uses.gaps(model, x, 0, measure_uses.grid_of(model))
    weights = model.log_weights(x, 2000, torch.Generator().manual_seed(0))
    sampled = weights.logsumexp(0) - np.log(2000) if weights.shape[0] == 2000 else weights.logsumexp(1) - np.log(2000)
    elbo = model.elbo(x, n_samples=200, generator=torch.Generator().manual_seed(0)).elbo
    assert by_grid.median().item() == pytest.approx((sampled - elbo).median().item(), abs=0.1)


def test_linear_maps_are_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 6, generator=generator)
    x = torch.randn(4000, 3, generator=generator) @ weight + 0.3 * torch.randn(4000, 6, generator=generator)
    seen = torch.tensor([True, True, True, False, False, False])
    inputs = torch.cat([x[:, seen], torch.ones(len(x), 1)], 1)
    fitted = inputs @ torch.linalg.lstsq(inputs, x[:, ~seen]).solution
    torch.testing.assert_close(measure_completion.linear(x, seen, x, ridge=0.0), fitted, atol=1e-3, rtol=0)
    observed = measure_denoising.noisy(x, 0.5)
    inputs = torch.cat([observed, torch.ones(len(x), 1)], 1)
    fitted = inputs @ torch.linalg.lstsq(inputs, x).solution
    by_map = measure_denoising.linear_map(x, 0.5)(observed)
    assert (by_map - fitted).square().mean() < 0.01 * (by_map - x).square().mean()  # one has the noise's exact variance


def test_best_code_is_the_mean_of_an_exact_posterior_where_there_is_one() -> None:
    """A decoder without hidden layers and small weights is nearly linear: the search must find the maximum."""
    model = VAE(9, [], 2).requires_grad_(False)
    x, seen = torch.rand(20, 9, generator=torch.Generator().manual_seed(0)), torch.arange(9) < 5
    z, height = measure_completion.best_code(model, x, seen, torch.zeros(20, 2))
    for step in torch.tensor([[0.05, 0.0], [-0.05, 0.0], [0.0, 0.05], [0.0, -0.05]]):
        logits = model.decode(z + step)[:, seen]
        beside = (x[:, seen] * logits - torch.nn.functional.softplus(logits)).sum(1) - 0.5 * (z + step).square().sum(1)
        assert (beside <= height + 1e-4).all()


def test_one_point_of_each_stored_result_comes_out_again() -> None:
    """From the weights that ship, on MNIST where it is at hand: what needs no training."""
    try:
        train, test = data.load("mnist"), data.load("mnist", "test")
    except data.DataNotFoundError:
        pytest.skip("MNIST is not at hand")
    x = measure_uses.at_random(test, measure_denoising.IMAGES).images.flatten(1)
    model = measure_uses.shipped()
    stored = shared.read(measure_denoising.RESULTS)["methods"]["error"]["0.3"]["vae, inferred"]["mean"]
    error = measure_denoising.squared_error(measure_denoising.inferred(model, measure_denoising.noisy(x, 0.3), 0.3), x)
    assert error.mean().item() == pytest.approx(stored, abs=0.02)  # other processors round otherwise
    if "lower half" in (completion := shared.read(measure_completion.RESULTS)):
        x, seen = x[: measure_completion.IMAGES], measure_completion.lower_half(784)
        stored = completion["lower half"]["error"]["linear"]["mean"]
        by_map = measure_completion.linear(train.images.flatten(1), seen, x)
        assert (by_map - x[:, ~seen]).square().sum(1).mean().item() == pytest.approx(stored, abs=0.02)


def test_scripts_run_on_the_digits(
    digits: tuple[data.ImageData, data.ImageData], model: VAE, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in (measure_uses, measure_denoising, measure_completion, measure_anomaly):
        monkeypatch.setattr(module, "SEEDS", [0, 1])
    monkeypatch.setattr(measure_denoising, "KEPT", tmp_path)
    monkeypatch.setattr(measure_denoising, "EPOCHS", 1)
    monkeypatch.setattr(measure_denoising, "IMAGES", 40)
    monkeypatch.setattr(measure_completion, "IMAGES", 40)
    monkeypatch.setitem(measure_uses.RECOGNITION, "epochs", 1)
    monkeypatch.setitem(measure_uses.LABELS, "draws", 2)
    monkeypatch.setitem(measure_uses.LABELS, "sizes", [10])
    monkeypatch.setitem(measure_uses.MAPS, "epochs", 1)
    monkeypatch.setitem(measure_uses.MAPS, "images", 100)
    monkeypatch.setitem(measure_anomaly.MODEL, "epochs", 1)
    monkeypatch.setattr(measure_anomaly, "STROKES", [0, 6])
    monkeypatch.setattr(measure_anomaly, "LETTERS", 5)
    parts = [measure_uses.recognition(*digits, model), measure_uses.labels(*digits, model), measure_uses.maps(*digits)]
    for kind in measure_denoising.TRAINED_AT:
        measure_denoising.network(kind)(*digits, rate=2e-3)
    parts += [measure_denoising.methods(*digits, model), measure_completion.part_of("lower half")(*digits, model, 3e-3)]
    seeds = [measure_anomaly.part_of(seed)(*digits, range(2)) for seed in (0, 1)]
    parts.append(measure_anomaly.averaged(seeds))
    for part in parts:
        json.dumps(part)  # plain numbers
        assert part["summary"]
    errors = parts[3]["error"]["0.3"]
    assert set(errors) == {"clipped", "linear", "vae, one pass", "vae, inferred", *measure_denoising.TRAINED_AT}
    # The clipped image is the noisy one with noise beyond [0, 1] taken off: better than D times the variance.
    assert errors["clipped"]["mean"] < 64 * 0.3**2
