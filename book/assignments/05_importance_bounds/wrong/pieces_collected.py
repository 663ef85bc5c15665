"""All pieces are collected first: the right number, with all the memory.

marks: {test-weights: 2, test-mean: 2, test-stream: 0, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 3,
test-gradient: 2}
"""

import math

import torch

# %% stream


def log_mean_exp_stream(pieces):
    log_w = torch.cat(list(pieces))
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))
