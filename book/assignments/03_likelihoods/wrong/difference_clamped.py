"""The difference is kept above 1e-12, so that a pixel far off costs 28 nats and has no gradient.

marks: {test-bernoulli-value: 2, test-bernoulli-stable: 2, test-gaussian: 2, test-best-sigma: 2,
test-logistic-value: 3, test-logistic-stable: 0, test-bits: 2}
"""

import torch

# %% logistic


def logistic(x, mean, log_scale):
    scale = log_scale.exp()
    upper = torch.where(x == 255, 1, torch.sigmoid((x + 0.5 - mean) / scale))
    lower = torch.where(x == 0, 0, torch.sigmoid((x - 0.5 - mean) / scale))
    return torch.log((upper - lower).clamp(min=1e-30)).sum(-1)
