"""The codes of completions and score have the standard deviation exp(log_var).

marks: {test-condition: 1, test-regressor: 2, test-floors: 2, test-kl: 1, test-likelihood: 1, test-elbo: 2,
test-gradient: 1, test-train: 1, test-whole: 1, test-complete: 0, test-score: 0}
"""

import math

import torch
from torch.distributions import Bernoulli

# %% complete


def complete(model, image, seen, y, n, generator):
    with torch.no_grad():
        mu, log_var = model.prior(y)
        z = mu + log_var.exp() * torch.randn(n, *mu.shape, generator=generator)
        white = torch.sigmoid(model.decode(z, y))
        return torch.where(seen, image, torch.bernoulli(white, generator=generator))


# %% score


def score(model, image, seen, y, n, generator):
    mu, log_var = model.prior(y)
    z = mu + log_var.exp() * torch.randn(n, *mu.shape, generator=generator)
    log_p = Bernoulli(logits=model.decode(z, y)).log_prob(image)
    return torch.logsumexp(torch.where(seen, 0.0, log_p).sum(-1), 0) - math.log(n)
