"""The variance of the noise is returned as its standard deviation.

marks: {test-evidence: 2, test-best-decoder: 0, test-best-weight: 2, test-elbo: 3, test-step: 2, test-train: 2,
test-gap: 2}
"""

import torch

# %% best-decoder


def best_decoder(mean, covariance, latent_dim):
    eigenvalues, directions = torch.linalg.eigh(covariance)
    noise = eigenvalues[:-latent_dim].mean()
    return directions[:, -latent_dim:] * (eigenvalues[-latent_dim:] - noise).sqrt(), mean, noise
