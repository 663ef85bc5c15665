"""The logarithm of the sum: too large by log S, which changes no standard error.

marks: {test-weights: 2, test-mean: 0, test-stream: 0, test-bound: 0, test-error: 1, test-ess: 2, test-exact: 0,
test-gradient: 2}
"""

import math

import torch

# %% mean


def log_mean_exp(log_w):
    return torch.logsumexp(log_w, 0)


# %% stream


def log_mean_exp_stream(pieces):
    total = torch.tensor(-math.inf)
    for piece in pieces:
        total = torch.logaddexp(total, torch.logsumexp(piece, 0))
    return total


# %% bound


def bound(log_w, n_samples):
    values = torch.logsumexp(log_w.unflatten(0, (-1, n_samples)), 1)
    return values.mean(0), values.std(0) / math.sqrt(len(values))


# %% exact


def exact_bound(log_w, q, n_samples):
    outcomes = torch.cartesian_prod(*[torch.arange(len(q))] * n_samples).reshape(-1, n_samples)
    return (q[outcomes].prod(-1) * torch.logsumexp(log_w[outcomes], -1)).sum()
