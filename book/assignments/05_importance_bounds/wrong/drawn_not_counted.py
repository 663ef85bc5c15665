"""A hundred thousand sets of draws, from a seed of its own: near the exact bound, and not it.

marks: {test-weights: 2, test-mean: 2, test-stream: 2, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 0,
test-gradient: 2}
"""

import math

import torch

# %% exact


def exact_bound(log_w, q, n_samples):
    generator = torch.Generator().manual_seed(0)
    draws = torch.multinomial(q, 100_000 * n_samples, replacement=True, generator=generator).reshape(-1, n_samples)
    return (torch.logsumexp(log_w[draws], -1) - math.log(n_samples)).mean()
