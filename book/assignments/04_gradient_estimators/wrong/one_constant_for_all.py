"""One baseline for all components, the mean of the best ones.

marks: {test-correlated: 1, test-truncated: 2, test-score: 2, test-score-gradients: 2, test-pathwise-gradients: 2,
test-coins: 3, test-variances: 3, test-best-baseline: 0}
"""

# %% best-baseline


def best_baseline(a, mu, log_sigma):
    variance = (2 * log_sigma).exp()
    best = 0.5 * (a * (mu**2 + variance)).sum() + a * variance
    return best.mean().expand(len(mu))
