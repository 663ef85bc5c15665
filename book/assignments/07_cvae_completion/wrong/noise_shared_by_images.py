"""The score with the same noise for all images.

marks: {test-condition: 1, test-regressor: 2, test-floors: 2, test-kl: 1, test-likelihood: 1, test-elbo: 2,
test-gradient: 1, test-train: 1, test-whole: 1, test-complete: 2, test-score: 0}
"""

import math

import torch
from torch.distributions import Bernoulli

# %% score


def score(model, image, seen, y, n, generator):
    mu, log_var = model.prior(y)
    z = mu + (log_var / 2).exp() * torch.randn(n, 1, mu.shape[1], generator=generator)
    log_p = Bernoulli(logits=model.decode(z, y)).log_prob(image)
    return torch.logsumexp(torch.where(seen, 0.0, log_p).sum(-1), 0) - math.log(n)
