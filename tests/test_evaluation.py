"""The test ELBO: an average over images with z sampled, whatever the batches."""

import pytest
import torch

from vaelib import evaluation
from vaelib.vae import VAE


def images(n: int) -> torch.Tensor:
    return torch.rand(n, 4, 4, generator=torch.Generator().manual_seed(0))


def test_the_mean_is_over_images_and_not_over_batches(monkeypatch):
    vae = VAE(16, (8,), 3)
    monkeypatch.setattr(evaluation, "_ROWS", 40)
    noise = torch.Generator().manual_seed(0)
    parts = [
        vae.elbo(images(101)[rows], generator=noise).elbo for rows in (slice(0, 40), slice(40, 80), slice(80, 101))
    ]
    assert evaluation.test_elbo(vae, images(101)) == pytest.approx(torch.cat(parts).mean().item(), rel=1e-6)


def test_z_is_sampled_so_that_the_number_is_a_bound_and_not_the_better_one_at_the_mean():
    vae = VAE(16, (), 3)
    with torch.no_grad():
        # A decoder that depends on z, and a posterior as wide as the prior: the mean looks better than any sample.
        vae.decoder[0].weight.mul_(6)
        vae.encoder[0].weight[3:] = 0
    x = images(2000)
    mu, _ = vae.encode(x)
    at_the_mean = (vae.log_likelihood(x.flatten(1), vae.decode(mu)) - vae.elbo(x).kl).mean().item()
    assert evaluation.test_elbo(vae, x) < at_the_mean - 0.5
    other_noise = evaluation.test_elbo(vae, x, generator=torch.Generator().manual_seed(9))
    assert other_noise != evaluation.test_elbo(vae, x) == evaluation.test_elbo(vae, x)


def test_no_images_are_an_error_and_never_nan():  # FAULTS 19
    with pytest.raises(ValueError, match="no images to evaluate"):
        evaluation.test_elbo(VAE(16, (8,), 3), images(0))


def test_images_that_the_model_refuses_are_named():
    with pytest.raises(ValueError, match="divide by 255"):
        evaluation.test_elbo(VAE(16, (8,), 3), 255 * images(3))
