"""The log weights are kept between -700 and 700, where the exponential is a number.

marks: {test-weights: 2, test-mean: 0, test-stream: 0, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 3,
test-gradient: 2}
"""

import math

import torch

# %% mean


def log_mean_exp(log_w):
    return log_w.clamp(-700, 700).exp().mean(0).log()


# %% stream


def log_mean_exp_stream(pieces):
    total, count = 0, 0
    for piece in pieces:
        total = total + piece.clamp(-700, 700).exp().sum(0)
        count += len(piece)
    return torch.log(total) - math.log(count)
