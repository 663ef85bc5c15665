"""One sigmoid, as it should be, and a cross-entropy of probabilities, which stops at 100 nats a pixel.

marks: {test-codes: 2, test-log-likelihood: 0, test-kl: 2, test-bound: 2,
test-weights: 1, test-train: 2, test-sample: 1, test-whole: 2}
"""

import torch
from torch.nn import functional as F

# %% log-likelihood


def log_likelihood(x, logits):
    probability = torch.sigmoid(logits)
    return -F.binary_cross_entropy(probability, x, reduction="none").sum(-1)
