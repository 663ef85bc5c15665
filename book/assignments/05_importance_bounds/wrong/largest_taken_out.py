"""The largest log weight is taken out of the sum without a look: minus infinity minus itself is not a number.

marks: {test-weights: 2, test-mean: 0, test-stream: 0, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 3,
test-gradient: 2}
"""

import math

import torch

# %% mean


def log_mean_exp(log_w):
    m = log_w.max(0).values
    return m + (log_w - m).exp().mean(0).log()


# %% stream


def log_mean_exp_stream(pieces):
    largest, total, count = None, 0, 0
    for piece in pieces:
        m = piece.max(0).values
        m = m if largest is None else torch.maximum(m, largest)
        if largest is not None:
            total = total * (largest - m).exp()
        total = total + (piece - m).exp().sum(0)
        largest, count = m, count + len(piece)
    return largest + total.log() - math.log(count)
