"""The shares are taken across the data points, not across the samples.

marks: {test-weights: 2, test-mean: 2, test-stream: 2, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 3,
test-gradient: 0}
"""

import torch

# %% gradient


def bound_gradient(log_w, slopes):
    return (torch.softmax(log_w, 1).unsqueeze(-1) * slopes).sum(0)
