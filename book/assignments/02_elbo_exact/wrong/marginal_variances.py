"""The variances of the posterior's dimensions, wider than the best independent ones.

marks: {test-joint: 2, test-terms: 3, test-gap: 2, test-estimate: 2, test-error: 1, test-best-q: 0,
test-best-decoder: 3}
"""

import torch

# %% best-q


def best_q(x, weight, bias, sigma):
    covariance = torch.linalg.inv(torch.eye(weight.shape[1]) + weight.T @ weight / sigma**2)
    mu = (x - bias) @ weight @ covariance / sigma**2
    return mu, covariance.diagonal().log().expand_as(mu)
