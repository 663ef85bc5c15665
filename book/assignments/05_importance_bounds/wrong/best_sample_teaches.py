"""Only the sample with the largest weight teaches.

marks: {test-weights: 2, test-mean: 2, test-stream: 2, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 3,
test-gradient: 0}
"""

import torch

# %% gradient


def bound_gradient(log_w, slopes):
    best = log_w.argmax(0)
    return slopes[best, torch.arange(len(best))]
