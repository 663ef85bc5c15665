"""The other half of the weights.

marks: {test-codes: 2, test-log-likelihood: 2, test-kl: 2, test-bound: 2,
test-weights: 0, test-train: 2, test-sample: 1, test-whole: 0}
"""

# %% weights


def weights(model):
    return list(model.encoder.parameters())
