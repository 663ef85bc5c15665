"""No sampling: the closed form, and the error that is known for equal variances.

marks: {test-log-density: 1, test-kl-value: 3, test-kl-batch: 2, test-prior-value: 1, test-prior-careful: 2,
test-estimate: 0, test-error: 0, test-cover: 3}
"""

# %% estimate


def kl_estimate(mu_q, log_var_q, mu_p, log_var_p, n, generator):
    distance = ((mu_q - mu_p) ** 2 / log_var_p.exp()).sum()
    rest = (log_var_p - log_var_q + (log_var_q - log_var_p).exp() - 1).sum()
    return 0.5 * (distance + rest), (distance / n) ** 0.5
