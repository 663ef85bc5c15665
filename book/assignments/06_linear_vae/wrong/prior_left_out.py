"""The precision of the posterior without that of the prior.

marks: {test-evidence: 2, test-best-decoder: 3, test-best-weight: 2, test-elbo: 3, test-step: 2, test-train: 2,
test-gap: 0}
"""

import torch

# %% gap


def smallest_gap(weight, sigma):
    precision = weight.T @ weight / sigma**2
    return 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
