"""The squared error is weighed by sigma, but the constant that depends on sigma is left out.

marks: {test-bernoulli-value: 2, test-bernoulli-stable: 2, test-gaussian: 0, test-best-sigma: 2,
test-logistic-value: 3, test-logistic-stable: 3, test-bits: 2}
"""

import math

# %% gaussian


def gaussian(x, mean, sigma):
    return (-0.5 * ((x - mean) / sigma) ** 2 - 0.5 * math.log(2 * math.pi)).sum(-1)
