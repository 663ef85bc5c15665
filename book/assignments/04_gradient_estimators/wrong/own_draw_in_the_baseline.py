"""The baseline is the mean of all draws, which shrinks the mean gradient.

marks: {test-correlated: 1, test-truncated: 2, test-score: 2, test-score-gradients: 2, test-pathwise-gradients: 2,
test-coins: 0, test-variances: 3, test-best-baseline: 1}
"""

import torch

# %% coins


def coin_gradients(f, logits, z):
    values = f(z)
    return (values - values.mean())[:, None] * (z - torch.sigmoid(logits))
