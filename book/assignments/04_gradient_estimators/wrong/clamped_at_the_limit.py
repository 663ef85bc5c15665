"""Exponential draws, those beyond the limit set to it.

marks: {test-correlated: 1, test-truncated: 0, test-score: 2, test-score-gradients: 2, test-pathwise-gradients: 2,
test-coins: 3, test-variances: 3, test-best-baseline: 1}
"""

import torch

# %% truncated


def truncated(rate, limit, u):
    return torch.minimum(-torch.log1p(-u) / rate, limit)
