"""The weights themselves are computed: they underflow, or overflow, and the results are infinite.

marks: {test-weights: 2, test-mean: 0, test-stream: 0, test-bound: 0, test-error: 0, test-ess: 0, test-exact: 0,
test-gradient: 0}
"""

import math

import torch

# %% mean


def log_mean_exp(log_w):
    return log_w.exp().mean(0).log()


# %% stream


def log_mean_exp_stream(pieces):
    total, count = 0, 0
    for piece in pieces:
        total = total + piece.exp().sum(0)
        count += len(piece)
    return total.log() - math.log(count)


# %% bound


def bound(log_w, n_samples):
    values = log_w.exp().unflatten(0, (-1, n_samples)).mean(1).log()
    return values.mean(0), values.std(0) / math.sqrt(len(values))


# %% ess


def effective_sample_size(log_w):
    w = log_w.exp()
    return w.sum(0) ** 2 / (w**2).sum(0)


# %% exact


def exact_bound(log_w, q, n_samples):
    outcomes = torch.cartesian_prod(*[torch.arange(len(q))] * n_samples).reshape(-1, n_samples)
    return (q[outcomes].prod(-1) * log_w[outcomes].exp().mean(-1).log()).sum()


# %% gradient


def bound_gradient(log_w, slopes):
    w = log_w.exp()
    return ((w / w.sum(0))[..., None] * slopes).sum(0)
