"""The probability of living longer is set to u: a draw with the right density, and not the quantile.

marks: {test-correlated: 1, test-truncated: 0, test-score: 2, test-score-gradients: 2, test-pathwise-gradients: 2,
test-coins: 3, test-variances: 3, test-best-baseline: 1}
"""

import torch

# %% truncated


def truncated(rate, limit, u):
    return -torch.log1p((1 - u) * torch.expm1(-rate * limit)) / rate
