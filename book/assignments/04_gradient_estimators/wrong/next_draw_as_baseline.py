"""One other draw as the baseline, in place of the mean of all others: unbiased, and noisier.

marks: {test-correlated: 1, test-truncated: 2, test-score: 2, test-score-gradients: 2, test-pathwise-gradients: 2,
test-coins: 0, test-variances: 3, test-best-baseline: 1}
"""

import torch

# %% coins


def coin_gradients(f, logits, z):
    values = f(z)
    return (values - values.roll(1))[:, None] * (z - torch.sigmoid(logits))
