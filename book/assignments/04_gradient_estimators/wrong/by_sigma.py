"""The derivatives are with respect to the standard deviation, not to its logarithm.

marks: {test-correlated: 1, test-truncated: 2, test-score: 0, test-score-gradients: 0, test-pathwise-gradients: 0,
test-coins: 3, test-variances: 3, test-best-baseline: 1}
"""

import torch

# %% score


def score(z, mu, log_sigma):
    sigma = log_sigma.exp()
    standardised = (z - mu) / sigma
    return standardised / sigma, (standardised**2 - 1) / sigma


# %% score-gradients


def score_gradients(f, mu, log_sigma, eps):
    sigma = log_sigma.exp()
    values = f(mu + sigma * eps)[:, None]
    return values * eps / sigma, values * (eps**2 - 1) / sigma


# %% pathwise-gradients


def pathwise_gradients(f, mu, log_sigma, eps):
    z = (mu + log_sigma.exp() * eps).requires_grad_()
    (slopes,) = torch.autograd.grad(f(z).sum(), z)
    return slopes, slopes * eps
