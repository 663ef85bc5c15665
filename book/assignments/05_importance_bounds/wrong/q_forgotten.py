"""The joint density alone: nobody divides by the density of the proposal.

marks: {test-weights: 0, test-mean: 2, test-stream: 2, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 3,
test-gradient: 2}
"""

import torch

# %% weights


def log_weights(log_joint, x, mu, log_var, eps):
    return log_joint(x, mu + torch.exp(log_var / 2) * eps)
