"""The exponential of the entropy of the shares: also S for equal weights and 1 for one alone.

marks: {test-weights: 2, test-mean: 2, test-stream: 2, test-bound: 2, test-error: 1, test-ess: 0, test-exact: 3,
test-gradient: 2}
"""

import torch

# %% ess


def effective_sample_size(log_w):
    shares = torch.softmax(log_w, 0)
    return torch.special.entr(shares).sum(0).exp()
