"""The decoder's number is taken for the scale, not for its logarithm.

marks: {test-bernoulli-value: 2, test-bernoulli-stable: 2, test-gaussian: 2, test-best-sigma: 2,
test-logistic-value: 0, test-logistic-stable: 0, test-bits: 2}
"""

import torch
from torch.nn.functional import logsigmoid

# %% logistic


def logistic(x, mean, log_scale):
    below, above = logsigmoid((x + 0.5 - mean) / log_scale), logsigmoid((mean - x + 0.5) / log_scale)
    inside = below + above + torch.log(-torch.expm1(-1 / log_scale))
    return torch.where(x == 0, below, torch.where(x == 255, above, inside)).sum(-1)
