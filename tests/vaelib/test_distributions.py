"""The formulas of vaelib.distributions against torch.distributions, autograd and their own theorems."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from vaelib.distributions import (
    bernoulli_log_prob,
    gaussian_log_prob,
    kl_gaussian,
    kl_standard_normal,
    reparameterize,
)

# Both sides are computed in float64, so that only the order of a few roundings differs.
CLOSE = {"rtol": 1e-6, "atol": 1e-9}
EXTREMES = [88.0, -88.0, 1e4, -1e4]


def random(*shape: int, scale: float = 1.0, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_kl_standard_normal_agrees_with_torch_on_ten_thousand_inputs():
    mu, log_var = random(10_000, 5, scale=3, seed=1), random(10_000, 5, scale=3, seed=2)
    oracle = kl_divergence(Normal(mu, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(kl_standard_normal(mu, log_var), oracle, **CLOSE)


def test_kl_gaussian_agrees_with_torch_on_ten_thousand_inputs():
    mu_q, lv_q, mu_p, lv_p = (random(10_000, 5, scale=2, seed=seed) for seed in range(4))
    oracle = kl_divergence(Normal(mu_q, (0.5 * lv_q).exp()), Normal(mu_p, (0.5 * lv_p).exp())).sum(-1)
    torch.testing.assert_close(kl_gaussian(mu_q, lv_q, mu_p, lv_p), oracle, **CLOSE)


def test_gaussian_log_prob_agrees_with_torch_on_ten_thousand_inputs():
    x, mu, log_var = (random(10_000, 5, scale=2, seed=seed) for seed in range(3))
    torch.testing.assert_close(
        gaussian_log_prob(x, mu, log_var), Normal(mu, (0.5 * log_var).exp()).log_prob(x).sum(-1), **CLOSE
    )


def test_gaussian_log_prob_with_one_log_variance_counts_every_dimension():
    x, mu = random(100, 7, seed=1), random(100, 7, seed=2)
    torch.testing.assert_close(gaussian_log_prob(x, mu, -1.4), Normal(mu, math.exp(-0.7)).log_prob(x).sum(-1), **CLOSE)


def test_bernoulli_log_prob_agrees_with_torch_on_ten_thousand_inputs():
    logits = random(10_000, 5, scale=8, seed=1)
    x = (random(10_000, 5, seed=2) > 0).double()
    oracle = Bernoulli(logits=logits).log_prob(x).sum(-1)
    torch.testing.assert_close(bernoulli_log_prob(x, logits), oracle, **CLOSE)


def test_bernoulli_log_prob_is_minus_the_cross_entropy_for_grey_pixels():
    x, logits = torch.sigmoid(random(50, 9, seed=1)), random(50, 9, scale=3, seed=2)
    oracle = -torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
    torch.testing.assert_close(bernoulli_log_prob(x, logits), oracle, **CLOSE)


def test_bernoulli_gradients_are_those_of_finite_differences():
    x = torch.sigmoid(random(3, 4, seed=1)).requires_grad_()
    logits = random(3, 4, scale=2, seed=2).requires_grad_()
    # Finite differences step outside [0, 1] where a pixel is close to the edge; these are not.
    assert torch.autograd.gradcheck(lambda a, b: bernoulli_log_prob(a, b, check=False), (x, logits))


def test_bernoulli_gradient_is_right_at_a_logit_of_exactly_zero():
    logits = torch.zeros(2, 3, requires_grad=True)
    bernoulli_log_prob(torch.ones(2, 3), logits).sum().backward()
    torch.testing.assert_close(logits.grad, torch.full((2, 3), 0.5))


def test_bernoulli_gradient_sums_over_broadcast_samples():
    x = (random(4, 3, seed=1) > 0).double()
    logits = random(5, 4, 3, seed=2).requires_grad_()
    bernoulli_log_prob(x, logits).sum().backward()
    torch.testing.assert_close(logits.grad, x - torch.sigmoid(logits.detach()))


@pytest.mark.parametrize("logit", [1e4, -1e4])
@pytest.mark.parametrize("pixel", [0.0, 1.0])
def test_extreme_logits_give_a_finite_loss_and_the_right_gradient(logit: float, pixel: float):  # FAULTS 23
    logits = torch.full((1, 3), logit, requires_grad=True)
    value = bernoulli_log_prob(torch.full((1, 3), pixel), logits)
    value.sum().backward()
    right = (logit > 0) == (pixel == 1)
    assert value.item() == (0.0 if right else -3e4)
    torch.testing.assert_close(logits.grad, torch.full((1, 3), pixel - float(logit > 0)))


@pytest.mark.parametrize("scale", [1e-5, 1e-4, 1e-3])
def test_kl_is_never_negative_near_the_prior_in_float32(scale: float):
    mu, log_var = (random(100_000, 1, scale=scale, seed=s, dtype=torch.float32) for s in (1, 2))
    assert (kl_standard_normal(mu, log_var) >= 0).all()
    assert (kl_gaussian(mu, log_var, log_var, mu) >= 0).all()


def test_kl_is_zero_only_between_equals_and_is_not_symmetric():
    mu, log_var = random(100, 4, seed=1), random(100, 4, seed=2)
    torch.testing.assert_close(kl_gaussian(mu, log_var, mu, log_var), torch.zeros(100, dtype=torch.float64))
    other = kl_gaussian(mu, log_var, mu + 1, log_var + 1)
    assert (other > 0).all()
    assert ((other - kl_gaussian(mu + 1, log_var + 1, mu, log_var)).abs() > 0.1).all()


def test_kl_to_the_standard_normal_is_the_special_case_of_kl_gaussian():
    mu, log_var = random(100, 4, seed=1), random(100, 4, seed=2)
    zero = torch.zeros_like(mu)
    torch.testing.assert_close(kl_standard_normal(mu, log_var), kl_gaussian(mu, log_var, zero, zero))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_var", EXTREMES)
def test_extreme_log_variances_stay_finite_forward_and_backward(log_var: float, dtype: torch.dtype):  # FAULTS 22
    def leaf(value: float) -> torch.Tensor:
        return torch.full((2, 50), value, dtype=dtype, requires_grad=True)

    mu, lv, other_mu, other_lv, x = leaf(1.0), leaf(log_var), leaf(-2.0), leaf(-log_var), leaf(3.0)
    leaves = [mu, lv, other_mu, other_lv, x]
    noise = torch.Generator().manual_seed(0)
    values = [
        kl_standard_normal(mu, lv),
        kl_gaussian(mu, lv, other_mu, other_lv),
        gaussian_log_prob(x, mu, lv),
        reparameterize(mu, lv, noise),
    ]
    for value in values:
        assert torch.isfinite(value).all()
        for gradient in torch.autograd.grad(value.sum(), leaves, allow_unused=True):
            assert gradient is None or torch.isfinite(gradient).all()


@pytest.mark.parametrize("log_var", [88.0, -88.0])
def test_log_variances_of_88_are_still_exact(log_var: float):
    mu, lv = torch.full((1, 1), 0.5), torch.full((1, 1), log_var)
    exact = 0.5 * (0.25 + math.expm1(log_var) - log_var)
    # float32 resolves seven digits, and exp magnifies the rounding of its argument 88-fold.
    assert kl_standard_normal(mu, lv).item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype):  # FAULTS 24
    mu, log_var = torch.full((2, 3), 1.0, dtype=dtype), torch.full((2, 3), 12.0, dtype=dtype)
    kl = kl_standard_normal(mu, log_var)
    assert kl.dtype == torch.float32
    # exp(12) overflows float16; both inputs are exact in either half type.
    torch.testing.assert_close(kl, kl_standard_normal(mu.double(), log_var.double()).float())


def test_an_empty_batch_gives_an_empty_result():  # FAULTS 19
    empty = torch.zeros(0, 4)
    for value in (
        kl_standard_normal(empty, empty),
        kl_gaussian(empty, empty, empty, empty),
        gaussian_log_prob(empty, empty, 0.0),
        bernoulli_log_prob(empty, empty),
    ):
        assert value.shape == (0,)


@pytest.mark.parametrize(
    ("pixels", "remedy"),
    [
        (torch.full((2, 4), 255, dtype=torch.uint8), "divide by 255"),
        (torch.tensor([[0.0, 255.0, 3.0, 1.0]]), "divide by 255"),
        (torch.tensor([[0.0, -1.0, 0.5, 1.0]]), r"\(x \+ 1\) / 2"),
        (torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, float("nan"), 0.0]]), r"\(1, 2\)"),
        (torch.tensor([[0.0, float("inf"), 0.0, 0.0]]), r"\(0, 1\)"),
    ],
)
def test_pixels_that_are_no_probabilities_are_refused_with_the_remedy(pixels, remedy):  # FAULTS 16, 17
    with pytest.raises(ValueError, match=remedy):
        bernoulli_log_prob(pixels, torch.zeros(pixels.shape))


def test_different_widths_are_named_and_never_broadcast():
    with pytest.raises(ValueError, match=r"x \(2, 1\), logits \(2, 4\)"):
        bernoulli_log_prob(torch.zeros(2, 1), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"mu \(5, 3\), log_var \(5, 1\)"):
        kl_standard_normal(torch.zeros(5, 3), torch.zeros(5, 1))


def test_reparameterized_samples_have_the_mean_and_variance_they_were_given():
    n = 200_000
    mu, log_var = torch.tensor([[0.7, -2.0]]).expand(n, 2), torch.tensor([[1.2, -0.5]]).expand(n, 2)
    z = reparameterize(mu, log_var, torch.Generator().manual_seed(0)).double()
    sigma = (0.5 * log_var[0]).exp().double()
    # Standard errors of the mean and of the standard deviation of n Gaussian draws; four of them.
    assert ((z.mean(0) - mu[0]).abs() < 4 * sigma / math.sqrt(n)).all()
    assert ((z.std(0) - sigma).abs() < 4 * sigma / math.sqrt(2 * n)).all()


def test_reparameterized_gradients_are_one_and_half_sigma_eps():
    mu, log_var = torch.zeros(1, 4, requires_grad=True), torch.full((1, 4), 0.6, requires_grad=True)
    z = reparameterize(mu, log_var, torch.Generator().manual_seed(3))
    z.sum().backward()
    torch.testing.assert_close(mu.grad, torch.ones(1, 4))
    torch.testing.assert_close(log_var.grad, 0.5 * z.detach())


def test_the_same_generator_gives_the_same_sample_and_the_global_seed_is_left_alone():
    mu = torch.zeros(3, 4)
    before = torch.random.get_rng_state()
    first, second = (reparameterize(mu, mu, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())
