"""The constant log 2 pi is added once, after the sum over the dimensions.

marks: {test-log-density: 0, test-kl-value: 3, test-kl-batch: 2, test-prior-value: 1, test-prior-careful: 2,
test-estimate: 2, test-error: 2, test-cover: 3}
"""

import math

# %% log-density


def log_density(z, mu, log_var):
    return -0.5 * ((log_var + (z - mu) ** 2 / log_var.exp()).sum(-1) + math.log(2 * math.pi))
