"""A completion is the decoder's probability of white, rounded: no pixel is drawn.

marks: {test-condition: 1, test-regressor: 2, test-floors: 2, test-kl: 1, test-likelihood: 1, test-elbo: 2,
test-gradient: 1, test-train: 1, test-whole: 1, test-complete: 0, test-score: 2}
"""

import torch

# %% complete


def complete(model, image, seen, y, n, generator):
    with torch.no_grad():
        mu, log_var = model.prior(y)
        z = mu + (log_var / 2).exp() * torch.randn(n, *mu.shape, generator=generator)
        return torch.where(seen, image, (model.decode(z, y) > 0).double())
