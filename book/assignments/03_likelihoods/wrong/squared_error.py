"""Minus half the squared error, without sigma and without constants.

marks: {test-bernoulli-value: 2, test-bernoulli-stable: 2, test-gaussian: 0, test-best-sigma: 2,
test-logistic-value: 3, test-logistic-stable: 3, test-bits: 2}
"""

# %% gaussian


def gaussian(x, mean, sigma):
    return -0.5 * ((x - mean) ** 2).sum(-1)
