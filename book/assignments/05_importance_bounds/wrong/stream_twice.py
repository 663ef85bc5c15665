"""The stream is gone through twice, first for the largest weight and then for the sum; the second time it is empty.

marks: {test-weights: 2, test-mean: 2, test-stream: 0, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 3,
test-gradient: 2}
"""

import torch

# %% stream


def log_mean_exp_stream(pieces):
    m = torch.stack([piece.max(0).values for piece in pieces]).max(0).values
    total, count = torch.zeros_like(m), 0
    for piece in pieces:
        total, count = total + (piece - m).exp().sum(0), count + len(piece)
    return m + torch.log(total / max(count, 1))
