"""The linear-Gaussian model against torch's multivariate normal, Bayes' rule and its own samples."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from vaelib.exact import LinearGaussian

DATA_DIM, LATENT_DIM = 5, 2


@pytest.fixture
def model() -> LinearGaussian:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(DATA_DIM, LATENT_DIM, generator=generator, dtype=torch.float64)
    return LinearGaussian(weight, torch.randn(DATA_DIM, generator=generator, dtype=torch.float64), sigma=0.6)


@pytest.fixture
def x(model: LinearGaussian) -> torch.Tensor:
    return model.sample(50, torch.Generator().manual_seed(1))


def test_log_evidence_is_that_of_the_marginal_gaussian(model, x):
    covariance = model.weight @ model.weight.T + model.sigma**2 * torch.eye(DATA_DIM, dtype=torch.float64)
    oracle = MultivariateNormal(model.bias, covariance).log_prob(x)
    # Two ways through float64 linear algebra of well-conditioned 5 x 5 matrices.
    torch.testing.assert_close(model.log_evidence(x), oracle, rtol=1e-10, atol=1e-10)


def test_log_joint_minus_log_posterior_is_the_log_evidence_at_every_z(model, x):
    mean, covariance = model.posterior(x)
    z = torch.randn(50, LATENT_DIM, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    log_prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
    log_likelihood = Normal(z @ model.weight.T + model.bias, model.sigma).log_prob(x).sum(-1)
    log_posterior = MultivariateNormal(mean, covariance).log_prob(z)
    torch.testing.assert_close(log_prior + log_likelihood - log_posterior, model.log_evidence(x), rtol=1e-9, atol=1e-9)


def test_samples_have_the_model_s_mean_and_covariance(model):
    n = 100_000
    samples = model.sample(n, torch.Generator().manual_seed(3))
    covariance = model.weight @ model.weight.T + model.sigma**2 * torch.eye(DATA_DIM, dtype=torch.float64)
    variance = covariance.diagonal()
    assert ((samples.mean(0) - model.bias).abs() < 4 * (variance / n).sqrt()).all()
    # The standard error of a covariance of Gaussians is sqrt((s_ii s_jj + s_ij^2) / n); 25 of them, hence five.
    error = ((variance[:, None] * variance + covariance.square()) / n).sqrt()
    assert ((samples.T.cov() - covariance).abs() < 5 * error).all()


def test_no_data_give_no_evidence(model, x):
    assert model.log_evidence(x[:0]).shape == (0,)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_a_sigma_that_is_not_positive_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma must be positive"):
        LinearGaussian(torch.ones(2, 1), torch.zeros(2), sigma)


def test_shapes_that_do_not_fit_are_named(model):
    with pytest.raises(ValueError, match=r"\(2, 1\) and \(3,\)"):
        LinearGaussian(torch.ones(2, 1), torch.zeros(3), 1.0)
    with pytest.raises(ValueError, match=r"\(N, 5\), not \(4, 3\)"):
        model.log_evidence(torch.zeros(4, 3))
