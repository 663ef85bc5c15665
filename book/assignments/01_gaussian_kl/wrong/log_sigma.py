"""The log variance is taken for the log standard deviation.

marks: {test-log-density: 0, test-kl-value: 0, test-kl-batch: 0, test-prior-value: 1, test-prior-careful: 2,
test-estimate: 2, test-error: 2, test-cover: 3}
"""

import math

import torch

# %% log-density


def log_density(z, mu, log_var):
    return -0.5 * (math.log(2 * math.pi) + 2 * log_var + (z - mu) ** 2 / torch.exp(2 * log_var)).sum(-1)


# %% kl


def kl_gaussian(mu_q, log_var_q, mu_p, log_var_p):
    var_q, var_p = torch.exp(2 * log_var_q), torch.exp(2 * log_var_p)
    return (log_var_p - log_var_q + (var_q + (mu_q - mu_p) ** 2) / (2 * var_p) - 0.5).sum(-1)
