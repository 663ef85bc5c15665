"""The bias is the mean of the data; what the latent vectors explain is not taken off.

marks: {test-joint: 2, test-terms: 3, test-gap: 2, test-estimate: 2, test-error: 1, test-best-q: 3,
test-best-decoder: 0}
"""

# %% best-decoder


def best_decoder(x, mu, log_var, weight):
    bias = x.mean(0)
    residual = x - mu @ weight.T - bias
    return bias, (residual**2 + log_var.exp() @ (weight**2).T).mean().sqrt()
