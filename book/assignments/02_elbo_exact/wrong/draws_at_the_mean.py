"""All draws are set to the mean of q: no noise, no error, and no bound.

marks: {test-joint: 2, test-terms: 3, test-gap: 2, test-estimate: 0, test-error: 0, test-best-q: 3,
test-best-decoder: 3}
"""

import math

from torch.distributions import Normal

# %% estimate


def elbo_estimate(x, mu, log_var, weight, bias, sigma, n, generator):

    q = Normal(mu, (log_var / 2).exp())
    z = mu.expand(n, *mu.shape)
    values = Normal(z @ weight.T + bias, sigma).log_prob(x).sum(-1) + Normal(0.0, 1.0).log_prob(z).sum(-1)
    values = values - q.log_prob(z).sum(-1)
    return values.mean(0), values.std(0) / math.sqrt(n)
