"""Annealed importance sampling against a model whose evidence is known exactly: from below, and from above."""

import math

import pytest
import torch
from torch import Tensor, nn

from vaelib import annealing, evaluation
from vaelib.annealing import annealed_log_weights
from vaelib.autoencoder import Autoencoder
from vaelib.exact import LinearGaussian
from vaelib.vae import VAE


def linear_gaussian(blur: float = 1.5) -> tuple[VAE, LinearGaussian]:
    """A linear VAE in float64 with its exact model: q has 0.7 times the exact mean, and `blur` times the spread."""
    data_dim, latent_dim, sigma = 6, 3, 0.5
    noise = torch.Generator().manual_seed(2)
    weight = torch.randn(data_dim, latent_dim, generator=noise, dtype=torch.float64)
    exact = LinearGaussian(weight, torch.zeros(data_dim, dtype=torch.float64), sigma)
    _, covariance = exact.posterior(weight.T)
    encoder, decoder = nn.Linear(data_dim, 2 * latent_dim), nn.Linear(latent_dim, data_dim)
    with torch.no_grad():
        to_mean = 0.7 * covariance @ weight.T / sigma**2
        encoder.weight.copy_(torch.cat([to_mean, torch.zeros_like(to_mean)]))
        encoder.bias.copy_(torch.cat([torch.zeros(3), covariance.diagonal().log() + 2 * math.log(blur)]))
        decoder.weight.copy_(weight)
        decoder.bias.zero_()
    vae = VAE(data_dim, (), latent_dim, likelihood="gaussian", sigma=sigma, encoder=encoder, decoder=decoder)
    return vae.double(), exact


def simulated(exact: LinearGaussian, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of the prior, the data drawn from them, and the exact log evidence."""
    noise = torch.Generator().manual_seed(3)
    z = torch.randn(n, exact.weight.shape[1], generator=noise, dtype=torch.float64)
    x = z @ exact.weight.T + exact.sigma * torch.randn(n, len(exact.bias), generator=noise, dtype=torch.float64)
    return z, x, exact.log_evidence(x)


def z_score(values: Tensor, expected: float) -> float:
    return abs((values.mean() - expected) / (values.std() / math.sqrt(len(values)))).item()


@pytest.mark.parametrize("n_temperatures", [5, 30])
def test_forward_weights_are_unbiased_for_the_evidence_and_backward_ones_for_its_inverse(n_temperatures):
    vae, exact = linear_gaussian()
    z, x, log_p = simulated(exact, 2000)
    forward = annealed_log_weights(vae, x, n_temperatures, 2).log_w
    backward = annealed_log_weights(vae, x, n_temperatures, 2, codes=z).log_w
    # One in 16,000 by chance; the chains of one point share x and z, so that their mean is one observation.
    assert z_score((forward - log_p).exp().mean(0), 1) < 4
    assert z_score((log_p - backward).exp().mean(0), 1) < 4


def test_the_two_bounds_enclose_the_exact_log_evidence_and_close_in_with_the_temperatures():
    vae, exact = linear_gaussian()
    z, x, log_p = simulated(exact, 1000)
    gaps = []
    for n_temperatures in (1, 10, 100):
        lower = annealed_log_weights(vae, x, n_temperatures, 1).log_w[0] - log_p
        upper = annealed_log_weights(vae, x, n_temperatures, 1, codes=z).log_w[0] - log_p
        assert lower.mean() < 4 * lower.std() / math.sqrt(1000)
        assert upper.mean() > -4 * upper.std() / math.sqrt(1000)
        gaps.append((upper - lower).mean().item())
    # About 3.5, 0.4 and 0.04 nats; a schedule that never reached the posterior would leave the first gap.
    assert gaps[0] > 4 * gaps[1] > 12 * gaps[2] > 0


def test_one_temperature_forward_is_ordinary_importance_sampling():
    vae, exact = linear_gaussian()
    _, x, _ = simulated(exact, 400)
    log_w = annealed_log_weights(vae, x, 1, 3).log_w
    elbos = evaluation.log_evidence(vae, x, 1)
    # Both are means of log w under q: nats, with errors of some 0.1.
    assert (log_w.mean() - elbos.mean()).abs() < 4 * elbos.std() / math.sqrt(400)


def test_moves_leave_the_posterior_as_it_is():
    vae, exact = linear_gaussian()
    z, x, _ = simulated(exact, 4000)
    posterior = exact.posterior(x)
    chains = annealing._Chains(vae, x, 0.4, 5, torch.Generator().manual_seed(5))
    u = ((z - chains.mu) / chains.sigma)[None].detach()
    at = chains.log_joint(u)
    for _ in range(5):
        u, at, moved = chains.move(u, at, 1.0)
    assert 0.5 < moved.double().mean() < 1
    off = (chains.mu + chains.sigma * u)[0] - posterior.mean
    found = off.T @ off / len(off)
    # 4,000 draws know a variance to 2%.
    assert (found - posterior.covariance).abs().max() < 0.1 * posterior.covariance.diagonal().max()
    torch.testing.assert_close(at[0], chains.log_joint(u)[0])


def test_the_same_noise_is_used_at_every_call_and_the_mode_is_kept():
    vae, exact = linear_gaussian()
    z, x, _ = simulated(exact, 10)
    vae.train()
    first, again = (annealed_log_weights(vae, x, 4, 2, codes=z) for _ in range(2))
    assert torch.equal(first.log_w, again.log_w) and vae.training
    assert first.log_w.shape == (2, 10) and first.acceptance.shape == (10,)
    other = annealed_log_weights(vae, x, 4, 2, codes=z, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(first.log_w, other.log_w)
    assert all(parameter.grad is None for parameter in vae.parameters())


def test_batches_keep_the_order_of_images_and_of_their_codes(monkeypatch):
    vae, exact = linear_gaussian(blur=1.0)
    z, x, log_p = simulated(exact, 50)
    monkeypatch.setattr(annealing, "_NUMBERS", 6 * 4 * 7)  # seven images at a time
    for codes in (None, z):
        found = annealed_log_weights(vae, x, 60, 4, codes=codes).log_w.mean(0)
        # The evidences differ by nats, the bounds from them by tenths.
        assert (found - log_p).abs().mean() < 0.3 < log_p.std()
    assert annealed_log_weights(vae, x[:0], 3, 4).log_w.shape == (4, 0)


@pytest.mark.parametrize("wrong", [{"n_temperatures": 0}, {"n_chains": 0}, {"n_leapfrog": 0}, {"step_size": 0.0}])
def test_settings_that_cannot_be_right_are_refused_by_name(wrong):
    vae, _ = linear_gaussian()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        annealed_log_weights(vae, torch.zeros(2, 6, dtype=torch.float64), **wrong)


def test_codes_need_one_for_each_image_and_a_model_needs_a_posterior():
    vae, exact = linear_gaussian()
    z, x, _ = simulated(exact, 4)
    for codes in (z[:3], z[:, :2]):
        with pytest.raises(ValueError, match="codes must be"):
            annealed_log_weights(vae, x, codes=codes)
    with pytest.raises(TypeError, match="annealed_log_weights needs"):
        annealed_log_weights(Autoencoder(6, (4,), 2), torch.rand(3, 6))
