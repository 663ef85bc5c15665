"""The logarithm is taken last, after the mean over the groups: the groups make no difference.

marks: {test-weights: 2, test-mean: 2, test-stream: 2, test-bound: 0, test-error: 1, test-ess: 2, test-exact: 3,
test-gradient: 2}
"""

import math

import torch

# %% bound


def bound(log_w, n_samples):
    values = torch.logsumexp(log_w.unflatten(0, (-1, n_samples)), 1) - math.log(n_samples)
    return torch.logsumexp(values, 0) - math.log(len(values)), values.std(0) / math.sqrt(len(values))
