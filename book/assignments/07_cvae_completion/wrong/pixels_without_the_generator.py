"""The codes are drawn with the generator, the pixels without it.

marks: {test-condition: 1, test-regressor: 2, test-floors: 2, test-kl: 1, test-likelihood: 1, test-elbo: 2,
test-gradient: 1, test-train: 1, test-whole: 1, test-complete: 0, test-score: 2}
"""

import torch
from torch.distributions import Bernoulli

# %% complete


def complete(model, image, seen, y, n, generator):
    with torch.no_grad():
        mu, log_var = model.prior(y)
        z = mu + (log_var / 2).exp() * torch.randn(n, *mu.shape, generator=generator)
        return torch.where(seen, image, Bernoulli(logits=model.decode(z, y)).sample())
