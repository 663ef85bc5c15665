"""The standard deviation of the groups is given as the error of their mean.

marks: {test-weights: 2, test-mean: 2, test-stream: 2, test-bound: 2, test-error: 0, test-ess: 2, test-exact: 3,
test-gradient: 2}
"""

import math

import torch

# %% bound


def bound(log_w, n_samples):
    values = torch.logsumexp(log_w.unflatten(0, (-1, n_samples)), 1) - math.log(n_samples)
    return values.mean(0), values.std(0)
