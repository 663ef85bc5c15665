"""The noise is drawn for each image, but it is scaled by the variance.

marks: {test-codes: 0, test-log-likelihood: 2, test-kl: 2, test-bound: 2,
test-weights: 1, test-train: 2, test-sample: 1, test-whole: 0}
"""

import torch

# %% reparameterize


def reparameterize(mu, log_var, generator):
    eps = torch.randn(mu.shape, generator=generator)
    return mu + torch.exp(log_var) * eps
