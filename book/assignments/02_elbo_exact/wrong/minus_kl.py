"""The second term comes with its sign in the bound, so that the difference adds it.

marks: {test-joint: 2, test-terms: 0, test-gap: 0, test-estimate: 2, test-error: 1, test-best-q: 3,
test-best-decoder: 3}
"""

import math

# %% terms


def elbo_terms(x, mu, log_var, weight, bias, sigma):

    residual = x - mu @ weight.T - bias
    spread = log_var.exp() @ (weight**2).T
    log_likelihood = -0.5 * ((residual**2 + spread) / sigma**2 + math.log(2 * math.pi * sigma**2)).sum(-1)
    return log_likelihood, -0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(-1)
