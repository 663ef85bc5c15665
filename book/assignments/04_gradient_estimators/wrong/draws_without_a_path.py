"""The draws are right, and cut off from their parameters.

marks: {test-correlated: 0, test-truncated: 0, test-score: 2, test-score-gradients: 2, test-pathwise-gradients: 2,
test-coins: 3, test-variances: 3, test-best-baseline: 1}
"""

import torch

# %% correlated


def correlated(mu, covariance, eps):
    return (mu + eps @ torch.linalg.cholesky(covariance).T).detach()


# %% truncated


def truncated(rate, limit, u):
    with torch.no_grad():
        return -torch.log1p(u * torch.expm1(-rate * limit)) / rate
