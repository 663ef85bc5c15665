"""The columns carry all the variance of the data, and the noise comes on top of it.

marks: {test-evidence: 2, test-best-decoder: 0, test-best-weight: 0, test-elbo: 3, test-step: 2, test-train: 2,
test-gap: 2}
"""

import torch

# %% best-decoder


def best_decoder(mean, covariance, latent_dim):
    eigenvalues, directions = torch.linalg.eigh(covariance)
    sigma = eigenvalues[:-latent_dim].mean().sqrt()
    return directions[:, -latent_dim:] * eigenvalues[-latent_dim:].sqrt(), mean, sigma


# %% best-weight


def best_weight(covariance, latent_dim, sigma):
    eigenvalues, directions = torch.linalg.eigh(covariance)
    kept = torch.where(eigenvalues > sigma**2, eigenvalues, 0.0)
    return (directions * kept.sqrt())[:, -latent_dim:]
