"""One shift for the whole table, its largest log weight: a data point far below another loses all its weights.

marks: {test-weights: 2, test-mean: 0, test-stream: 0, test-bound: 0, test-error: 1, test-ess: 0, test-exact: 3,
test-gradient: 0}
"""

import math

import torch

# %% mean


def log_mean_exp(log_w):
    shift = log_w.max().clamp(min=-1e300)
    return (log_w - shift).exp().mean(0).log() + shift


# %% stream


def log_mean_exp_stream(pieces):
    total, count = torch.tensor(-math.inf), 0
    for piece in pieces:
        shift = piece.max().clamp(min=-1e300)
        total = torch.logaddexp(total, (piece - shift).exp().sum(0).log() + shift)
        count += len(piece)
    return total - math.log(count)


# %% bound


def bound(log_w, n_samples):
    shift = log_w.max()
    values = (log_w - shift).exp().unflatten(0, (-1, n_samples)).mean(1).log() + shift
    return values.mean(0), values.std(0) / math.sqrt(len(values))


# %% ess


def effective_sample_size(log_w):
    w = (log_w - log_w.max()).exp()
    return w.sum(0).square() / w.square().sum(0)


# %% gradient


def bound_gradient(log_w, slopes):
    w = (log_w - log_w.max()).exp()
    return (w.unsqueeze(-1) * slopes).sum(0) / w.sum(0).unsqueeze(-1)
