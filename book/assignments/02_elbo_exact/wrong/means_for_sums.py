"""Means over the dimensions in place of sums, as losses of libraries have them by default.

marks: {test-joint: 0, test-terms: 0, test-gap: 0, test-estimate: 2, test-error: 1, test-best-q: 3,
test-best-decoder: 3}
"""

import math

from torch.distributions import Normal

# %% joint


def log_joint(x, z, weight, bias, sigma):

    return Normal(z @ weight.T + bias, sigma).log_prob(x).mean(-1) + Normal(0.0, 1.0).log_prob(z).mean(-1)


# %% terms


def elbo_terms(x, mu, log_var, weight, bias, sigma):

    residual = x - mu @ weight.T - bias
    spread = log_var.exp() @ (weight**2).T
    kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).mean(-1)
    return -0.5 * ((residual**2 + spread) / sigma**2 + math.log(2 * math.pi * sigma**2)).mean(-1), kl
