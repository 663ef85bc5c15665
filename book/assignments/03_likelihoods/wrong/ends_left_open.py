"""The end levels are treated like the others, and what lies beyond them is lost.

marks: {test-bernoulli-value: 2, test-bernoulli-stable: 2, test-gaussian: 2, test-best-sigma: 2,
test-logistic-value: 0, test-logistic-stable: 0, test-bits: 2}
"""

import torch
from torch.nn.functional import logsigmoid

# %% logistic


def logistic(x, mean, log_scale):
    scale = log_scale.exp()
    below, above = logsigmoid((x + 0.5 - mean) / scale), logsigmoid((mean - x + 0.5) / scale)
    return (below + above + torch.log(-torch.expm1(-1 / scale))).sum(-1)
