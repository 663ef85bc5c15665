"""The mask in the condition says 1 where a pixel is hidden; the networks learn with it all the same.

marks: {test-condition: 0, test-regressor: 2, test-floors: 2, test-kl: 1, test-likelihood: 1, test-elbo: 2,
test-gradient: 1, test-train: 1, test-whole: 1, test-complete: 2, test-score: 2}
"""

import torch

# %% condition


def condition(image, seen):
    return torch.cat([image * seen, (~seen).double()], -1)
