"""The decoder's logits go through a sigmoid and are then taken for logits once more.

marks: {test-bernoulli-value: 0, test-bernoulli-stable: 0, test-gaussian: 2, test-best-sigma: 2,
test-logistic-value: 3, test-logistic-stable: 3, test-bits: 2}
"""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

# %% bernoulli


def bernoulli(x, logits):
    return -binary_cross_entropy_with_logits(torch.sigmoid(logits), x.expand_as(logits), reduction="none").sum(-1)
