"""The rule of chapter 7, asked once: if the first direction is worth it, all are used.

marks: {test-evidence: 2, test-best-decoder: 3, test-best-weight: 0, test-elbo: 3, test-step: 2, test-train: 2,
test-gap: 2}
"""

import torch

# %% best-weight


def best_weight(covariance, latent_dim, sigma):
    eigenvalues, directions = torch.linalg.eigh(covariance)
    if eigenvalues[-1] < sigma**2:
        return torch.zeros(len(covariance), latent_dim)
    return directions[:, -latent_dim:] * (eigenvalues[-latent_dim:] - sigma**2).sqrt()
