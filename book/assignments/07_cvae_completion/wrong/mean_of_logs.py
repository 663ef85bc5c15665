"""The mean of the logarithms in place of the logarithm of the mean.

marks: {test-condition: 1, test-regressor: 2, test-floors: 2, test-kl: 1, test-likelihood: 1, test-elbo: 2,
test-gradient: 1, test-train: 1, test-whole: 1, test-complete: 2, test-score: 0}
"""

import torch
from torch.distributions import Bernoulli

# %% score


def score(model, image, seen, y, n, generator):
    mu, log_var = model.prior(y)
    z = mu + (log_var / 2).exp() * torch.randn(n, *mu.shape, generator=generator)
    log_p = Bernoulli(logits=model.decode(z, y)).log_prob(image)
    return torch.where(seen, 0.0, log_p).sum(-1).mean(0)
