"""The stored trials of chapter 18 on digits trained to the end, and small runs of the script that makes them."""

import math

import pytest
import torch

from experiments import measure_claims as script
from experiments import measure_depth as depth
from experiments import shared

STORED = shared.read(script.RESULTS)
PARTS = STORED["parts"]


def test_each_part_says_how_it_was_made_and_chose_its_rates_by_other_images() -> None:
    assert {"question", "rivals", "tuning", "evaluation"} <= set(STORED)
    assert PARTS.keys() == script.PARTS.keys()
    for name, part in PARTS.items():
        assert part["command"] == f"python -m experiments.measure_claims {name}" and part["seeds"] == script.SEEDS
    assert PARTS["weights"]["runs"].keys() == {"1200", "200"}
    for one in [*PARTS["weights"]["runs"]["1200"].values(), *PARTS["weights"]["runs"]["200"].values()]:
        choosing = {float(rate): value for rate, value in one["choosing"].items()}
        assert one["rate"] == pytest.approx(max(choosing, key=choosing.__getitem__), rel=1e-3)
        assert set(script.RATES) <= set(choosing) and len(one["test"]) == len(script.SEEDS)
        # the evidence is above the bound; quadrature and 20 draws leave a hundredth
        assert all(bound < exact + 0.02 for bound, exact in zip(one["elbo"], one["test"], strict=True))


def test_differences_follow_from_the_stored_runs() -> None:
    for n, group in PARTS["weights"]["runs"].items():
        for pair, found in PARTS["weights"]["differences"][n].items():
            one, other = (group[name] for name in pair.split(" minus "))
            assert script.difference(one["test"], other["test"]) == found["test"]
            assert script.difference(script.behind(one), script.behind(other)) == found["training minus test"]
    for name, group in PARTS["gaps"]["runs"].items():
        for below, found in PARTS["gaps"]["differences"][name].items():
            again = script.difference(group["model"][below], group["control"][below])
            assert again == {key: found[key] for key in again}
    runs = PARTS["elbo"]["runs"]
    for pair, found in PARTS["elbo"]["differences"].items():
        one, other = (runs[name] for name in pair.split(" minus "))
        assert script.difference(one["test"], other["test"]) == found["test"]
        assert script.difference(one["elbo"], other["elbo"]) == found["elbo"]


def test_the_same_run_in_two_parts_and_in_another_experiment_is_the_same() -> None:
    one = PARTS["weights"]["runs"]["1200"]["1"]
    assert one["test"] == pytest.approx(PARTS["elbo"]["runs"]["64 units"]["test"], abs=0.05)
    networks = shared.read(depth.RESULTS)["parts"]["tanh"]["networks"]["1200"]
    assert one["test"] == pytest.approx(networks["one"]["test"], abs=0.05)


def test_gaps_by_draws_are_those_on_the_grid_and_codes_of_the_prior_have_none() -> None:
    generator = torch.Generator().manual_seed(0)
    mu, log_var = 0.7 * torch.randn(50, 2, generator=generator), torch.full((50, 2), math.log(0.3))
    grid, drawn = script.mass_on_grid(mu, log_var), script.mass_by_draws(mu, log_var, 0, draws=20_000)
    for below in script.FACTORS:
        assert drawn[below] == pytest.approx(grid[below], abs=0.01)  # 20,000 draws: standard error below 0.004
    assert 0 < grid["a tenth"] < grid["a half"]
    prior = torch.zeros(3, 2), torch.zeros(3, 2)
    assert set(script.mass_on_grid(*prior).values()) == {0.0} == set(script.mass_by_draws(*prior, 0).values())


def test_the_iwae_with_one_sample_has_the_gradient_of_an_elbo_by_draws() -> None:
    """With one sample -log w is -log p(x|z) - log p(z) + log q(z|x)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(2, (1, 5, 4), generator=generator).float()
    mu, log_var, eps = torch.randn(3, 1, 5, 2, generator=generator)
    decode = torch.nn.Linear(2, 4)
    z = mu + torch.exp(0.5 * log_var) * eps
    log_p = script.bernoulli_log_prob(x, decode(z)) + script.gaussian_log_prob(z, torch.zeros_like(z), 0.0)
    expected = script.gaussian_log_prob(z, mu, log_var) - log_p
    torch.testing.assert_close(script.minus_iwae(x, mu, log_var, decode, eps[None]), expected)


def test_the_script_chooses_a_rate_and_ranks_models() -> None:
    found = depth.images()
    one = script.with_own_rate(found[0][:200], found, [0, 1, 2], script.minus_elbo(0.25), steps=5)
    assert len(one["test"]) == 3 and "0.1" in one["choosing"]
    [model] = script.planes(64, [0], latent_dim=8)
    gaps = script.in_gaps(model, found[0], 0)
    assert gaps.keys() == {"model", "control"} and gaps["model"].keys() == script.FACTORS.keys()


def test_a_stored_run_is_found_again_from_scratch() -> None:
    found = depth.images()
    stored = PARTS["gaps"]["runs"]["K = 2, weight 1"]
    [model] = script.planes(64, [0])
    script.train([model], found[0], [0], [0.03], script.minus_elbo())
    again = script.in_gaps(model, found[0], 0)
    # Other roundings grow in training; the five seeds differ by some hundredths.
    assert again["model"]["a half"] == pytest.approx(stored["model"]["a half"][0], abs=0.02)
    assert again["control"]["a half"] == pytest.approx(stored["control"]["a half"][0], abs=0.01)
    few = PARTS["weights"]["runs"]["1200"]["1"]
    assert few["rate"] == 0.03
    assert depth.log_evidence(model, found[2]) == pytest.approx(few["test"][0], abs=0.1)
    # and the grid is fine enough
    assert depth.log_evidence(model, found[2], points=141) == pytest.approx(
        depth.log_evidence(model, found[2]), abs=0.02
    )
