"""The log likelihood alone is taken for the log joint density.

marks: {test-joint: 0, test-terms: 3, test-gap: 2, test-estimate: 2, test-error: 1, test-best-q: 3,
test-best-decoder: 3}
"""

from torch.distributions import Normal

# %% joint


def log_joint(x, z, weight, bias, sigma):

    return Normal(z @ weight.T + bias, sigma).log_prob(x).sum(-1)
