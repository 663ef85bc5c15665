"""The standard deviation of the errors about their own mean: a shift of all means costs nothing.

marks: {test-bernoulli-value: 2, test-bernoulli-stable: 2, test-gaussian: 2, test-best-sigma: 0,
test-logistic-value: 3, test-logistic-stable: 3, test-bits: 2}
"""

# %% best-sigma


def best_sigma(x, mean):
    return (x - mean).std(correction=0)
