"""Nats for each dimension where bits are asked for.

marks: {test-bernoulli-value: 2, test-bernoulli-stable: 2, test-gaussian: 2, test-best-sigma: 2,
test-logistic-value: 3, test-logistic-stable: 3, test-bits: 0}
"""

import math

# %% bits


def bits_per_dimension(log_density, data_dim):
    return math.log(255) - log_density / data_dim
