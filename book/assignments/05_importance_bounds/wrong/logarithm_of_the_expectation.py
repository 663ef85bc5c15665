"""The logarithm of the expected mean weight: the log evidence, for every S.

marks: {test-weights: 2, test-mean: 2, test-stream: 2, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 0,
test-gradient: 2}
"""

import torch

# %% exact


def exact_bound(log_w, q, n_samples):
    return torch.logsumexp(log_w + q.log(), 0)
