"""The noise accounts for the errors at the means only, as in a regression.

marks: {test-joint: 2, test-terms: 3, test-gap: 2, test-estimate: 2, test-error: 1, test-best-q: 3,
test-best-decoder: 0}
"""

# %% best-decoder


def best_decoder(x, mu, log_var, weight):
    residual = x - mu @ weight.T
    return residual.mean(0), (residual - residual.mean(0)).square().mean().sqrt()
