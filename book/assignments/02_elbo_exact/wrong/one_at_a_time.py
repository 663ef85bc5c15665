"""Each mean as if the other dimensions were zero: right only for orthogonal columns.

marks: {test-joint: 2, test-terms: 3, test-gap: 2, test-estimate: 2, test-error: 1, test-best-q: 0,
test-best-decoder: 3}
"""

# %% best-q


def best_q(x, weight, bias, sigma):
    precision = 1 + (weight**2).sum(0) / sigma**2
    mu = (x - bias) @ weight / sigma**2 / precision
    return mu, -precision.log().expand_as(mu)
