"""The mean over the dimensions in place of the sum: right in one dimension only.

marks: {test-log-density: 0, test-kl-value: 3, test-kl-batch: 0, test-prior-value: 0, test-prior-careful: 2,
test-estimate: 2, test-error: 2, test-cover: 3}
"""

import math

import torch

# %% log-density


def log_density(z, mu, log_var):
    return -0.5 * (math.log(2 * math.pi) + log_var + (z - mu) ** 2 / log_var.exp()).mean(-1)


# %% kl


def kl_gaussian(mu_q, log_var_q, mu_p, log_var_p):
    distance = (mu_q - mu_p) ** 2 / log_var_p.exp()
    return 0.5 * (log_var_p - log_var_q + (log_var_q - log_var_p).exp() + distance - 1).mean(-1)


# %% prior


def kl_of_prior(mu, log_var):
    return 0.5 * (mu**2 * torch.exp(-log_var) + torch.expm1(-log_var) + log_var).mean(-1)
