"""The codes of the bound come from the prior network, so that training ends at a regressor.

marks: {test-condition: 1, test-regressor: 2, test-floors: 2, test-kl: 1, test-likelihood: 1, test-elbo: 0,
test-gradient: 0, test-train: 1, test-whole: 0, test-complete: 2, test-score: 2}
"""

import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

# %% elbo


def elbo(model, image, seen, y, generator):
    mu, log_var = model.encode(image, y)
    prior_mu, prior_log_var = model.prior(y)
    q, prior = Normal(mu, (log_var / 2).exp()), Normal(prior_mu, (prior_log_var / 2).exp())
    z = prior.mean + prior.stddev * torch.randn(mu.shape, generator=generator)
    log_p = Bernoulli(logits=model.decode(z, y)).log_prob(image)
    return torch.where(seen, 0.0, log_p).sum(-1) - kl_divergence(q, prior).sum(-1)
