"""The square of the mean gradient is not subtracted, which shows only away from mu = 0.

marks: {test-correlated: 1, test-truncated: 2, test-score: 2, test-score-gradients: 2, test-pathwise-gradients: 2,
test-coins: 3, test-variances: 0, test-best-baseline: 1}
"""

# %% variances


def variances(a, mu, log_sigma, baseline):
    sigma = log_sigma.exp()
    beta, delta = a * mu * sigma, a * sigma**2
    mean = 0.5 * (a * mu**2 + delta).sum() - baseline
    spread = (beta**2 + 0.5 * delta**2).sum()
    return (a * sigma) ** 2, (spread + mean**2 + 2 * mean * delta + 2 * beta**2 + 2 * delta**2) / sigma**2
