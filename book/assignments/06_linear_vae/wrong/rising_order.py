"""The eigenvalues come in rising order, and the first ones are taken for the largest.

marks: {test-evidence: 2, test-best-decoder: 0, test-best-weight: 0, test-elbo: 3, test-step: 2, test-train: 2,
test-gap: 2}
"""

import torch

# %% best-decoder


def best_decoder(mean, covariance, latent_dim):
    eigenvalues, directions = torch.linalg.eigh(covariance)
    noise = eigenvalues[latent_dim:].mean()
    lengths = (eigenvalues[:latent_dim] - noise).clamp(min=0).sqrt()
    return directions[:, :latent_dim] * lengths, mean, noise.sqrt()


# %% best-weight


def best_weight(covariance, latent_dim, sigma):
    eigenvalues, directions = torch.linalg.eigh(covariance)
    lengths = (eigenvalues[:latent_dim] - sigma**2).clamp(min=0).sqrt()
    return directions[:, :latent_dim] * lengths
