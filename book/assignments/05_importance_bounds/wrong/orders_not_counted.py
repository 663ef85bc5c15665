"""Each set of values is taken once, whatever the number of orders in which it can be drawn.

marks: {test-weights: 2, test-mean: 2, test-stream: 2, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 0,
test-gradient: 2}
"""

import math
from itertools import combinations_with_replacement

import torch

# %% exact


def exact_bound(log_w, q, n_samples):
    outcomes = torch.tensor(list(combinations_with_replacement(range(len(q)), n_samples)))
    values = torch.logsumexp(log_w[outcomes], -1) - math.log(n_samples)
    return (q[outcomes].prod(-1) * values).sum()
