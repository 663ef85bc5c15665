"""The sum over the latent dimensions is there, and the half is gone with the mean.

marks: {test-codes: 2, test-log-likelihood: 2, test-kl: 0, test-bound: 2,
test-weights: 1, test-train: 2, test-sample: 1, test-whole: 0}
"""

# %% kl


def kl(mu, log_var):
    return (mu**2 + log_var.exp() - 1 - log_var).sum(-1)
