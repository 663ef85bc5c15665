"""Every outcome has the same probability, whatever the proposal says.

marks: {test-weights: 2, test-mean: 2, test-stream: 2, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 0,
test-gradient: 2}
"""

import math

import torch

# %% exact


def exact_bound(log_w, q, n_samples):
    outcomes = torch.cartesian_prod(*[torch.arange(len(q))] * n_samples).reshape(-1, n_samples)
    return (torch.logsumexp(log_w[outcomes], -1) - math.log(n_samples)).mean()
