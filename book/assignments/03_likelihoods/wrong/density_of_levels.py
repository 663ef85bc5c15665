"""The logistic density at the level, in place of the probability of its interval.

marks: {test-bernoulli-value: 2, test-bernoulli-stable: 2, test-gaussian: 2, test-best-sigma: 2,
test-logistic-value: 0, test-logistic-stable: 0, test-bits: 2}
"""

from torch.nn.functional import softplus

# %% logistic


def logistic(x, mean, log_scale):
    u = (x - mean) / log_scale.exp()
    return (-u - 2 * softplus(-u) - log_scale).sum(-1)
