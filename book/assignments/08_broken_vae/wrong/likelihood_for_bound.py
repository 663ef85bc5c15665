"""The report samples the code, but it leaves the divergence out.

marks: {test-codes: 2, test-log-likelihood: 2, test-kl: 2, test-bound: 0,
test-weights: 1, test-train: 2, test-sample: 1, test-whole: 2}
"""

import torch

from vaelib import distributions

# %% evaluate


@torch.no_grad()
def evaluate(x, model, generator):
    z = distributions.reparameterize(*model.encode(x), generator)
    return distributions.bernoulli_log_prob(x, model.decode(z)).mean()
