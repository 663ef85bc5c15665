"""The definition as it stands: right near the mean, infinite far from it.

marks: {test-bernoulli-value: 2, test-bernoulli-stable: 2, test-gaussian: 2, test-best-sigma: 2,
test-logistic-value: 3, test-logistic-stable: 0, test-bits: 2}
"""

import torch

# %% logistic


def logistic(x, mean, log_scale):
    scale = log_scale.exp()
    upper = torch.where(x == 255, 1, torch.sigmoid((x + 0.5 - mean) / scale))
    lower = torch.where(x == 0, 0, torch.sigmoid((x - 0.5 - mean) / scale))
    return torch.where(x == 255, torch.sigmoid((mean - x + 0.5) / scale).log(), torch.log(upper - lower)).sum(-1)
