"""The mean of the logarithms, which is the ELBO for every S, and its standard error.

marks: {test-weights: 2, test-mean: 0, test-stream: 0, test-bound: 0, test-error: 0, test-ess: 2, test-exact: 0,
test-gradient: 2}
"""

import math

# %% mean


def log_mean_exp(log_w):
    return log_w.mean(0)


# %% stream


def log_mean_exp_stream(pieces):
    total, count = 0, 0
    for piece in pieces:
        total = total + piece.sum(0)
        count += len(piece)
    return total / count


# %% bound


def bound(log_w, n_samples):
    return log_w.mean(0), log_w.std(0) / math.sqrt(len(log_w))


# %% exact


def exact_bound(log_w, q, n_samples):
    return (q * log_w).sum()
