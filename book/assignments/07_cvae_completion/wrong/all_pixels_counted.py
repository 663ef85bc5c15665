"""The log likelihood of all pixels, those that are seen too, everywhere.

marks: {test-condition: 1, test-regressor: 2, test-floors: 2, test-kl: 1, test-likelihood: 0, test-elbo: 0,
test-gradient: 0, test-train: 1, test-whole: 1, test-complete: 2, test-score: 0}
"""

import math

import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

# %% likelihood


def log_likelihood(image, seen, logits):
    return -torch.nn.functional.softplus((1 - 2 * image) * logits).sum(-1)


# %% elbo


def elbo(model, image, seen, y, generator):
    mu, log_var = model.encode(image, y)
    prior_mu, prior_log_var = model.prior(y)
    q, prior = Normal(mu, (log_var / 2).exp()), Normal(prior_mu, (prior_log_var / 2).exp())
    z = q.mean + q.stddev * torch.randn(mu.shape, generator=generator)
    log_p = Bernoulli(logits=model.decode(z, y)).log_prob(image)
    return log_p.sum(-1) - kl_divergence(q, prior).sum(-1)


# %% score


def score(model, image, seen, y, n, generator):
    mu, log_var = model.prior(y)
    z = mu + (log_var / 2).exp() * torch.randn(n, *mu.shape, generator=generator)
    log_p = Bernoulli(logits=model.decode(z, y)).log_prob(image).sum(-1)
    return torch.logsumexp(log_p, 0) - math.log(n)
