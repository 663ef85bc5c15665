"""The largest log weight comes back without its gradient: the right value, and derivatives that sum to 0.

marks: {test-weights: 2, test-mean: 0, test-stream: 2, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 3,
test-gradient: 2}
"""

import math

import torch

# %% mean


def log_mean_exp(log_w):
    m = log_w.max(0).values
    m = torch.where(m == -math.inf, 0, m)
    return m.detach() + (log_w - m).exp().mean(0).log()
