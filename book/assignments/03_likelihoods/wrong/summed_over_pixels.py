"""The errors are summed over the pixels, so that sigma is too large by the root of D.

marks: {test-bernoulli-value: 2, test-bernoulli-stable: 2, test-gaussian: 2, test-best-sigma: 0,
test-logistic-value: 3, test-logistic-stable: 3, test-bits: 2}
"""

# %% best-sigma


def best_sigma(x, mean):
    return ((x - mean) ** 2).sum(-1).mean().sqrt()
