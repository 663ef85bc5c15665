"""The log variance of q is taken for the logarithm of its standard deviation.

marks: {test-evidence: 2, test-best-decoder: 3, test-best-weight: 2, test-elbo: 0, test-step: 2, test-train: 0,
test-gap: 2}
"""

import math

import torch

# %% elbo


def elbo(x, model):
    mu = x @ model.encoder_weight.T + model.encoder_bias
    log_var = 2 * model.log_var
    variance = log_var.exp()
    squared = (x - mu @ model.weight.T - model.bias) ** 2 + model.weight**2 @ variance
    log_densities = -0.5 * squared * torch.exp(-2 * model.log_sigma) - model.log_sigma - 0.5 * math.log(2 * math.pi)
    kl = 0.5 * (mu**2 + variance - 1 - log_var).sum(-1)
    return log_densities.sum(-1) - kl
