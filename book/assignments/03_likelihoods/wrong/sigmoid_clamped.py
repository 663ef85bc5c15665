"""The probability is kept away from 0 and 1, so that a wrong pixel costs at most 16 nats and has no gradient.

marks: {test-bernoulli-value: 2, test-bernoulli-stable: 0, test-gaussian: 2, test-best-sigma: 2,
test-logistic-value: 3, test-logistic-stable: 3, test-bits: 2}
"""

import torch

# %% bernoulli


def bernoulli(x, logits):
    chance = torch.sigmoid(logits).clamp(1e-7, 1 - 1e-7)
    return (x * torch.log(chance) + (1 - x) * torch.log(1 - chance)).sum(-1)
