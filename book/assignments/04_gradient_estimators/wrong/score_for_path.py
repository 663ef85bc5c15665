"""The score function estimator in place of the pathwise one: unbiased too, but not what is asked for.

marks: {test-correlated: 1, test-truncated: 2, test-score: 2, test-score-gradients: 2, test-pathwise-gradients: 0,
test-coins: 3, test-variances: 3, test-best-baseline: 1}
"""

# %% pathwise-gradients


def pathwise_gradients(f, mu, log_sigma, eps):
    sigma = log_sigma.exp()
    values = f(mu + sigma * eps)[:, None]
    return values * eps / sigma, values * (eps**2 - 1)
