"""The logarithm of the mean weight: a tighter bound, but not the one that is asked for.

marks: {test-joint: 2, test-terms: 3, test-gap: 2, test-estimate: 0, test-error: 0, test-best-q: 3,
test-best-decoder: 3}
"""

import math

import torch
from torch.distributions import Normal

# %% estimate


def elbo_estimate(x, mu, log_var, weight, bias, sigma, n, generator):

    q = Normal(mu, (log_var / 2).exp())
    z = mu + q.stddev * torch.randn(n, *mu.shape, generator=generator)
    values = Normal(z @ weight.T + bias, sigma).log_prob(x).sum(-1) + Normal(0.0, 1.0).log_prob(z).sum(-1)
    values = values - q.log_prob(z).sum(-1)
    return values.logsumexp(0) - math.log(n), values.std(0) / math.sqrt(n)
