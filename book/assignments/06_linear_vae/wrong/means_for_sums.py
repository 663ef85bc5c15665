"""Means over the dimensions in place of sums, as losses of libraries have them by default.

marks: {test-evidence: 2, test-best-decoder: 3, test-best-weight: 2, test-elbo: 0, test-step: 2, test-train: 0,
test-gap: 2}
"""

import math

import torch

# %% elbo


def elbo(x, model):
    mu = x @ model.encoder_weight.T + model.encoder_bias
    variance = model.log_var.exp()
    squared = (x - mu @ model.weight.T - model.bias) ** 2 + model.weight**2 @ variance
    log_densities = -0.5 * squared * torch.exp(-2 * model.log_sigma) - model.log_sigma - 0.5 * math.log(2 * math.pi)
    kl = 0.5 * (mu**2 + variance - 1 - model.log_var).mean(-1)
    return log_densities.mean(-1) - kl
