"""Means over the pixels in place of sums.

marks: {test-bernoulli-value: 0, test-bernoulli-stable: 2, test-gaussian: 0, test-best-sigma: 2,
test-logistic-value: 0, test-logistic-stable: 3, test-bits: 2}
"""

import torch
from torch.distributions import Normal
from torch.nn.functional import logsigmoid

# %% bernoulli


def bernoulli(x, logits):
    return logsigmoid((2 * x - 1) * logits).mean(-1)


# %% gaussian


def gaussian(x, mean, sigma):
    return Normal(mean, sigma).log_prob(x).mean(-1)


# %% logistic


def logistic(x, mean, log_scale):
    scale = log_scale.exp()
    below, above = logsigmoid((x + 0.5 - mean) / scale), logsigmoid((mean - x + 0.5) / scale)
    inside = below + above + torch.log(-torch.expm1(-1 / scale))
    return torch.where(x == 0, below, torch.where(x == 255, above, inside)).mean(-1)
