"""All peaks count the same, whatever their weights.

marks: {test-log-density: 1, test-kl-value: 3, test-kl-batch: 2, test-prior-value: 1, test-prior-careful: 2,
test-estimate: 2, test-error: 2, test-cover: 0}
"""

# %% cover


def cover(weights, means, variances):
    mu = means.mean()
    return mu, (variances + (means - mu) ** 2).mean()
