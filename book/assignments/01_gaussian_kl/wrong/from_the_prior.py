"""The direction that a VAE uses and chapter 1 derives, not the one that is asked for.

marks: {test-log-density: 1, test-kl-value: 3, test-kl-batch: 2, test-prior-value: 0, test-prior-careful: 0,
test-estimate: 2, test-error: 2, test-cover: 3}
"""

import torch

# %% prior


def kl_of_prior(mu, log_var):
    return 0.5 * (mu**2 + torch.expm1(log_var) - log_var).sum(-1)
