"""The mean of the slopes, which is the gradient of the ELBO for every S.

marks: {test-weights: 2, test-mean: 2, test-stream: 2, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 3,
test-gradient: 0}
"""

# %% gradient


def bound_gradient(log_w, slopes):
    return slopes.mean(0)
