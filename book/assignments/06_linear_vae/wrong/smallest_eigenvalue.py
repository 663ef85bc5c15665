"""The noise is the smallest eigenvalue, in place of the mean of all that are left out.

marks: {test-evidence: 2, test-best-decoder: 0, test-best-weight: 2, test-elbo: 3, test-step: 2, test-train: 2,
test-gap: 2}
"""

import torch

# %% best-decoder


def best_decoder(mean, covariance, latent_dim):
    eigenvalues, directions = torch.linalg.eigh(covariance)
    noise = eigenvalues[0]
    lengths = (eigenvalues[-latent_dim:] - noise).sqrt()
    return directions[:, -latent_dim:] * lengths, mean, noise.sqrt()
