"""The arguments are taken in the wrong order: this is the divergence of p from q.

marks: {test-log-density: 1, test-kl-value: 0, test-kl-batch: 0, test-prior-value: 1, test-prior-careful: 2,
test-estimate: 2, test-error: 2, test-cover: 3}
"""

# %% kl


def kl_gaussian(mu_q, log_var_q, mu_p, log_var_p):
    distance = (mu_q - mu_p) ** 2 / log_var_q.exp()
    return 0.5 * (log_var_q - log_var_p + (log_var_p - log_var_q).exp() + distance - 1).sum(-1)
