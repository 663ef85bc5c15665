"""The derivatives are with respect to the logarithm of the variance.

marks: {test-correlated: 1, test-truncated: 2, test-score: 0, test-score-gradients: 0, test-pathwise-gradients: 0,
test-coins: 3, test-variances: 3, test-best-baseline: 1}
"""

import torch

# %% score


def score(z, mu, log_sigma):
    sigma = log_sigma.exp()
    standardised = (z - mu) / sigma
    return standardised / sigma, 0.5 * (standardised**2 - 1)


# %% score-gradients


def score_gradients(f, mu, log_sigma, eps):
    sigma = log_sigma.exp()
    values = f(mu + sigma * eps)[:, None]
    return values * eps / sigma, 0.5 * values * (eps**2 - 1)


# %% pathwise-gradients


def pathwise_gradients(f, mu, log_sigma, eps):
    sigma = log_sigma.exp()
    z = (mu + sigma * eps).requires_grad_()
    (slopes,) = torch.autograd.grad(f(z).sum(), z)
    return slopes, 0.5 * slopes * sigma * eps
