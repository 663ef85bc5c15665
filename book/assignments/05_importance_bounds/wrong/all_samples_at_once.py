"""All T samples make one group: the tightest bound that they allow, but not the one asked for.

marks: {test-weights: 2, test-mean: 2, test-stream: 2, test-bound: 0, test-error: 0, test-ess: 2, test-exact: 3,
test-gradient: 2}
"""

import math

import torch

# %% bound


def bound(log_w, n_samples):
    return torch.logsumexp(log_w, 0) - math.log(len(log_w)), log_w.std(0) / math.sqrt(len(log_w))
