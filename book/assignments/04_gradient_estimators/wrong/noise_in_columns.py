"""The root is applied as if each vector of noise were a column.

marks: {test-correlated: 0, test-truncated: 2, test-score: 2, test-score-gradients: 2, test-pathwise-gradients: 2,
test-coins: 3, test-variances: 3, test-best-baseline: 1}
"""

import torch

# %% correlated


def correlated(mu, covariance, eps):
    return mu + eps @ torch.linalg.cholesky(covariance)
