"""The codes come from the prior, but pixels are drawn where probabilities are asked for.

marks: {test-codes: 2, test-log-likelihood: 2, test-kl: 2, test-bound: 2,
test-weights: 1, test-train: 2, test-sample: 0, test-whole: 2}
"""

import torch

# %% sample


@torch.no_grad()
def sample(n, model, generator):
    z = torch.randn(n, model.latent_dim, generator=generator)
    return torch.bernoulli(torch.sigmoid(model.decode(z)), generator=generator)
