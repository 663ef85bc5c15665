"""The constants with log 2 pi are left out, as in a loss for training.

marks: {test-joint: 0, test-terms: 0, test-gap: 0, test-estimate: 2, test-error: 1, test-best-q: 3,
test-best-decoder: 3}
"""

import math

# %% joint


def log_joint(x, z, weight, bias, sigma):

    residual = (x - z @ weight.T - bias) / sigma
    return -0.5 * (residual**2).sum(-1) - len(bias) * math.log(sigma) - 0.5 * (z**2).sum(-1)


# %% terms


def elbo_terms(x, mu, log_var, weight, bias, sigma):

    spread = log_var.exp() @ (weight**2).T
    squared = (x - mu @ weight.T - bias) ** 2 + spread
    kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(-1)
    return -0.5 * (squared / sigma**2).sum(-1) - len(bias) * math.log(sigma), kl
