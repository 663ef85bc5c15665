"""The samples have the standard deviation exp(log_var), the density of q has the right one.

marks: {test-weights: 0, test-mean: 2, test-stream: 2, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 3,
test-gradient: 2}
"""

from torch.distributions import Normal

# %% weights


def log_weights(log_joint, x, mu, log_var, eps):
    z = mu + log_var.exp() * eps
    return log_joint(x, z) - Normal(mu, (log_var / 2).exp()).log_prob(z).sum(-1)
