"""The divergence from N(0, I), in the closed form and in the bound.

marks: {test-condition: 1, test-regressor: 2, test-floors: 2, test-kl: 0, test-likelihood: 1, test-elbo: 0,
test-gradient: 0, test-train: 1, test-whole: 1, test-complete: 2, test-score: 2}
"""

import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

# %% kl


def kl(mu_q, log_var_q, mu_p, log_var_p):
    return 0.5 * (log_var_q.exp() + mu_q**2 - 1 - log_var_q).sum(-1)


# %% elbo


def elbo(model, image, seen, y, generator):
    mu, log_var = model.encode(image, y)
    q = Normal(mu, (log_var / 2).exp())
    z = q.mean + q.stddev * torch.randn(mu.shape, generator=generator)
    log_p = Bernoulli(logits=model.decode(z, y)).log_prob(image)
    return torch.where(seen, 0.0, log_p).sum(-1) - kl_divergence(q, Normal(0.0, 1.0)).sum(-1)
