"""Computed in float64 and returned so: careful, but the type of the input is lost.

marks: {test-log-density: 1, test-kl-value: 3, test-kl-batch: 2, test-prior-value: 1, test-prior-careful: 0,
test-estimate: 2, test-error: 2, test-cover: 3}
"""

import torch

# %% prior


def kl_of_prior(mu, log_var):
    mu, log_var = mu.double(), log_var.double()
    return 0.5 * (mu**2 * torch.exp(-log_var) + torch.expm1(-log_var) + log_var).sum(-1)
