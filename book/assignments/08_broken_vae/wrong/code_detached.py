"""What was right is "mended": the code is cut off, and no gradient of the likelihood reaches the encoder.

marks: {test-codes: 2, test-log-likelihood: 2, test-kl: 2, test-bound: 0,
test-weights: 1, test-train: 2, test-sample: 1, test-whole: 0}
"""

from vaelib import distributions

# %% elbo


def elbo(x, model, generator):
    mu, log_var = model.encode(x)
    z = distributions.reparameterize(mu, log_var, generator).detach()
    return distributions.bernoulli_log_prob(x, model.decode(z)), distributions.kl_standard_normal(mu, log_var)
