"""The best variance of the noise where its standard deviation is asked for.

marks: {test-joint: 2, test-terms: 3, test-gap: 2, test-estimate: 2, test-error: 1, test-best-q: 3,
test-best-decoder: 0}
"""

# %% best-decoder


def best_decoder(x, mu, log_var, weight):
    residual = x - mu @ weight.T
    bias = residual.mean(0)
    return bias, ((residual - bias) ** 2 + log_var.exp() @ (weight**2).T).mean()
