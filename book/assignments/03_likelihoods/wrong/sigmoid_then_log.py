"""The logarithm of a sigmoid: right at moderate logits, infinite at large ones.

marks: {test-bernoulli-value: 2, test-bernoulli-stable: 0, test-gaussian: 2, test-best-sigma: 2,
test-logistic-value: 3, test-logistic-stable: 3, test-bits: 2}
"""

import torch

# %% bernoulli


def bernoulli(x, logits):
    chance = torch.sigmoid(logits)
    return (x * torch.log(chance) + (1 - x) * torch.log(1 - chance)).sum(-1)
