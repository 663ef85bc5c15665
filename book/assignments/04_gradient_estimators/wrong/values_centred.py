"""The values are centred on their mean, the own draw in it, where the plain estimator is asked for.

marks: {test-correlated: 1, test-truncated: 2, test-score: 2, test-score-gradients: 0, test-pathwise-gradients: 2,
test-coins: 3, test-variances: 3, test-best-baseline: 1}
"""

# %% score-gradients


def score_gradients(f, mu, log_sigma, eps):
    sigma = log_sigma.exp()
    values = f(mu + sigma * eps)[:, None]
    values = values - values.mean()
    return values * eps / sigma, values * (eps**2 - 1)
