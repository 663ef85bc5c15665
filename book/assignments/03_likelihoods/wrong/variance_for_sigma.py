"""The number sigma is taken for the variance, and the best variance is returned.

marks: {test-bernoulli-value: 2, test-bernoulli-stable: 2, test-gaussian: 0, test-best-sigma: 0,
test-logistic-value: 3, test-logistic-stable: 3, test-bits: 2}
"""

from torch.distributions import Normal

# %% gaussian


def gaussian(x, mean, sigma):
    return Normal(mean, sigma**0.5).log_prob(x).sum(-1)


# %% best-sigma


def best_sigma(x, mean):
    return ((x - mean) ** 2).mean()
