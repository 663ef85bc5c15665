"""The divergence in closed form, only the likelihood from draws: unbiased, with another error.

marks: {test-joint: 2, test-terms: 3, test-gap: 2, test-estimate: 2, test-error: 0, test-best-q: 3,
test-best-decoder: 3}
"""

import math

import torch
from torch.distributions import Normal

# %% estimate


def elbo_estimate(x, mu, log_var, weight, bias, sigma, n, generator):

    z = mu + (log_var / 2).exp() * torch.randn(n, *mu.shape, generator=generator)
    kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(-1)
    values = Normal(z @ weight.T + bias, sigma).log_prob(x).sum(-1) - kl
    return values.mean(0), values.std(0) / math.sqrt(n)
