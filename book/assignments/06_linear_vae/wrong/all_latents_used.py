"""What is missing to the noise is taken by its absolute value, so that no latent is left unused.

marks: {test-evidence: 2, test-best-decoder: 3, test-best-weight: 0, test-elbo: 3, test-step: 2, test-train: 2,
test-gap: 2}
"""

import torch

# %% best-weight


def best_weight(covariance, latent_dim, sigma):
    eigenvalues, directions = torch.linalg.eigh(covariance)
    return directions[:, -latent_dim:] * (eigenvalues[-latent_dim:] - sigma**2).abs().sqrt()
