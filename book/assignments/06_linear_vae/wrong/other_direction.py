"""The divergence of the posterior from q at its best: with two latents it happens to be the same number.

marks: {test-evidence: 2, test-best-decoder: 3, test-best-weight: 2, test-elbo: 3, test-step: 2, test-train: 2,
test-gap: 0}
"""

import torch

# %% gap


def smallest_gap(weight, sigma):
    precision = torch.eye(weight.shape[1]) + weight.T @ weight / sigma**2
    return 0.5 * (torch.linalg.inv(precision).diagonal().log().sum() + torch.logdet(precision))
