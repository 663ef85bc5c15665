"""The mean over the draws is differentiated, so that each gradient is n times too small.

marks: {test-correlated: 1, test-truncated: 2, test-score: 2, test-score-gradients: 2, test-pathwise-gradients: 0,
test-coins: 3, test-variances: 3, test-best-baseline: 1}
"""

import torch

# %% pathwise-gradients


def pathwise_gradients(f, mu, log_sigma, eps):
    sigma = log_sigma.exp()
    z = (mu + sigma * eps).requires_grad_()
    (slopes,) = torch.autograd.grad(f(z).mean(), z)
    return slopes, slopes * sigma * eps
