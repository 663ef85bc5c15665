"""The plain formula: right, but rounding makes it negative near the prior.

marks: {test-log-density: 1, test-kl-value: 3, test-kl-batch: 2, test-prior-value: 1, test-prior-careful: 0,
test-estimate: 2, test-error: 2, test-cover: 3}
"""

import torch

# %% prior


def kl_of_prior(mu, log_var):
    return 0.5 * ((mu**2 + 1) * torch.exp(-log_var) - 1 + log_var).sum(-1)
