"""Probabilities on the way to the log likelihood, and to the score.

marks: {test-condition: 1, test-regressor: 2, test-floors: 2, test-kl: 1, test-likelihood: 0, test-elbo: 2,
test-gradient: 1, test-train: 1, test-whole: 1, test-complete: 2, test-score: 0}
"""

import torch

# %% likelihood


def log_likelihood(image, seen, logits):
    white = torch.sigmoid(logits)
    log_p = image * white.log() + (1 - image) * (1 - white).log()
    return torch.where(seen, 0.0, log_p).sum(-1)


# %% score


def score(model, image, seen, y, n, generator):
    mu, log_var = model.prior(y)
    z = mu + (log_var / 2).exp() * torch.randn(n, *mu.shape, generator=generator)
    white = torch.sigmoid(model.decode(z, y))
    p = torch.where(image == 1, white, 1 - white)
    return torch.where(seen, 1.0, p).prod(-1).mean(0).log()
