"""The cross-entropy itself, a loss, where the log probability is asked for.

marks: {test-bernoulli-value: 0, test-bernoulli-stable: 0, test-gaussian: 2, test-best-sigma: 2,
test-logistic-value: 3, test-logistic-stable: 3, test-bits: 2}
"""

from torch.nn.functional import softplus

# %% bernoulli


def bernoulli(x, logits):
    return (softplus(logits) - x * logits).sum(-1)
