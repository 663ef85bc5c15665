"""Each piece gives its mean, and the means are averaged, however long the pieces are.

marks: {test-weights: 2, test-mean: 2, test-stream: 0, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 3,
test-gradient: 2}
"""

import math

import torch

# %% stream


def log_mean_exp_stream(pieces):
    means = torch.stack([torch.logsumexp(piece, 0) - math.log(len(piece)) for piece in pieces])
    return torch.logsumexp(means, 0) - math.log(len(means))
