"""The gap of the q with the variances of the posterior, which is not the best one.

marks: {test-evidence: 2, test-best-decoder: 3, test-best-weight: 2, test-elbo: 3, test-step: 2, test-train: 2,
test-gap: 0}
"""

import torch

# %% gap


def smallest_gap(weight, sigma):
    precision = torch.eye(weight.shape[1]) + weight.T @ weight / sigma**2
    variance = torch.linalg.inv(precision).diagonal()
    distance = (precision.diagonal() * variance - 1 - variance.log()).sum()
    return 0.5 * (distance - torch.logdet(precision))
