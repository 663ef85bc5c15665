"""The mean of f is taken for the best baseline.

marks: {test-correlated: 1, test-truncated: 2, test-score: 2, test-score-gradients: 2, test-pathwise-gradients: 2,
test-coins: 3, test-variances: 3, test-best-baseline: 0}
"""

# %% best-baseline


def best_baseline(a, mu, log_sigma):
    return 0.5 * (a * (mu**2 + (2 * log_sigma).exp())).sum().expand(len(mu))
