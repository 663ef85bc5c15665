"""Images that occur twice count once.

marks: {test-condition: 1, test-regressor: 0, test-floors: 0, test-kl: 1, test-likelihood: 1, test-elbo: 2,
test-gradient: 1, test-train: 1, test-whole: 1, test-complete: 2, test-score: 2}
"""

import torch

# %% regressor


def best_regressor(images, seen):
    kinds = images.unique(dim=0)
    agree = (images[:, None, seen] == kinds[:, seen]).all(-1).double()
    return agree @ kinds / agree.sum(-1, keepdim=True)


# %% floors


def floors(images, seen):
    images = images.unique(dim=0)
    agree = (images[:, None, seen] == images[:, seen]).all(-1).double()
    white = agree @ images / agree.sum(-1, keepdim=True)
    coins = torch.special.entr(white) + torch.special.entr(1 - white)
    return coins.sum(-1).mean(), agree.sum(-1).log().mean()
