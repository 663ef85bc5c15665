"""The expected log likelihood is replaced by the log likelihood at the mean of q.

marks: {test-joint: 2, test-terms: 0, test-gap: 0, test-estimate: 2, test-error: 1, test-best-q: 3,
test-best-decoder: 3}
"""

from torch.distributions import Normal

# %% terms


def elbo_terms(x, mu, log_var, weight, bias, sigma):

    kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(-1)
    return Normal(mu @ weight.T + bias, sigma).log_prob(x).sum(-1), kl
