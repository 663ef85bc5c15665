"""The stored comparison of likelihoods in colour, and small runs of the script that measures it."""

import statistics

import pytest
import torch

from experiments import measure_colour as script
from experiments import shared

STORED = shared.read(script.RESULTS)
PART = STORED["parts"]["patches"]
LEVELS = torch.arange(256) / 255


def test_the_stored_part_says_how_it_was_made_and_chose_on_another_seed() -> None:
    assert {"question", "rivals", "tuning", "evaluation"} <= set(STORED)
    assert PART["command"] == "python -m experiments.measure_colour" and PART["seeds"] == script.SEEDS
    assert {"threads", "device", "processor", "torch", "code", "date"} <= set(PART["provenance"])
    assert script.TUNING not in script.SEEDS
    for record in PART["tuning"].values():
        tried = {float(rate): bits for rate, bits in record["bits"].items()}
        assert tried[record["rate"]] == min(tried.values())
        assert min(tried) < record["rate"] < max(tried)  # no edge won


def test_differences_follow_from_the_stored_runs() -> None:
    logistic = PART["runs"][script.LOGISTIC]["bits"]
    for arm, found in PART["above_logistic"].items():
        differences = [a - b for a, b in zip(PART["runs"][arm]["bits"], logistic, strict=True)]
        assert found == script.interval(differences)
        assert found["mean"] == pytest.approx(statistics.mean(differences), abs=1e-4)


@pytest.mark.parametrize(("mean", "sigma"), [(0.3, 0.1), (-0.4, 0.05), (0.999, 0.003), (0.5, 1.0), (0.2, 0.02)])
def test_the_mass_of_a_gaussian_is_its_integral_over_each_interval_and_sums_to_1(mean: float, sigma: float) -> None:
    found = script.log_mass(LEVELS, torch.tensor(mean), sigma).double().exp()
    normal = torch.distributions.Normal(*(torch.tensor(each, dtype=torch.float64) for each in (mean, sigma)))
    edges = (torch.arange(255, dtype=torch.float64) + 0.5) / 255
    below = torch.cat([torch.zeros(1), normal.cdf(edges), torch.ones(1)])
    # float32: a level's edges are known to a part in 10^7 of a pixel, which a narrow sigma makes more of
    torch.testing.assert_close(found, below.diff(), atol=1e-7 / sigma, rtol=0)
    assert abs(found.sum() - 1) < 2e-5


def test_far_from_the_mean_the_mass_is_that_of_the_density_and_has_a_gradient() -> None:
    mean = torch.tensor(0.1, requires_grad=True)
    x = torch.tensor([230 / 255])
    found = script.log_mass(x, mean, 0.05)  # 16 sigma away, where float32's distribution function is 0 or 1
    distance = (x - mean) / 0.05
    half = distance * script.HALF / 0.05  # the density's integral, its exponent taken as linear within a level
    expected = torch.distributions.Normal(mean, 0.05).log_prob(x) - torch.tensor(255.0).log()
    expected = expected + torch.log(torch.sinh(half) / half)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)
    found.sum().backward()
    assert mean.grad is not None and mean.grad == pytest.approx(float(distance.detach()) / 0.05, rel=0.02)


def test_bits_are_those_of_the_elbo_of_a_model_that_gives_probabilities() -> None:
    images = torch.randint(256, (4, *script.SHAPE), generator=torch.Generator().manual_seed(0)) / 255
    model = script.train(script.LOGISTIC, images, 1e-4, 0, steps=1)
    with torch.no_grad():
        terms = model.elbo(images, generator=torch.Generator().manual_seed(0))
    nats = float((terms.kl - terms.log_likelihood).mean())
    # other draws of z, of a model that has hardly learned to use it
    assert script.bits(model, images)["bits"] == pytest.approx(nats / (3072 * 0.6931), abs=0.02)


def test_script_runs_on_a_few_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, validation = script.patches()
    monkeypatch.setattr(script, "patches", lambda: (grid, validation[:4]))
    monkeypatch.setattr(script, "RATES", [1e-3])
    found = script.likelihoods(steps=2, share=60)
    assert set(found["runs"]) == set(script.ARMS) and set(found["calibration"]) == set(PART["calibration"])
    assert all(len(run["bits"]) == 3 for run in found["runs"].values())
    assert len(found["tuning"][script.LOGISTIC]["bits"]) == 2  # an edge that wins is widened once


def test_a_stored_run_is_found_again_from_scratch() -> None:
    grid, _ = script.patches()
    test = script.data.load("patches", "test").images
    arm = "Gaussian, learned"
    model = script.train(arm, grid.reshape(-1, *script.SHAPE), PART["tuning"][arm]["rate"], script.SEEDS[0])
    # other roundings grow in training at this rate: seeds lie 0.02 apart, likelihoods 0.2
    assert script.bits(model, test)["bits"] == pytest.approx(PART["runs"][arm]["bits"][0], abs=0.06)
