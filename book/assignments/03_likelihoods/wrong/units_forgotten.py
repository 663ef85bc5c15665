"""The units stay as they are, so that a density of 1 counts as 0 bits.

marks: {test-bernoulli-value: 2, test-bernoulli-stable: 2, test-gaussian: 2, test-best-sigma: 2,
test-logistic-value: 3, test-logistic-stable: 3, test-bits: 0}
"""

import math

# %% bits


def bits_per_dimension(log_density, data_dim):
    return -log_density / data_dim / math.log(2)
