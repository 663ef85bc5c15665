"""A group has every G-th sample, not S neighbours.

marks: {test-weights: 2, test-mean: 2, test-stream: 2, test-bound: 0, test-error: 0, test-ess: 2, test-exact: 3,
test-gradient: 2}
"""

import math

import torch

# %% bound


def bound(log_w, n_samples):
    values = torch.logsumexp(log_w.unflatten(0, (n_samples, -1)), 0) - math.log(n_samples)
    return values.mean(0), values.std(0) / math.sqrt(len(values))
