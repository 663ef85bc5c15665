"""The weights are turned round, q over p, so that the worst sample weighs most.

marks: {test-weights: 0, test-mean: 2, test-stream: 2, test-bound: 2, test-error: 1, test-ess: 2, test-exact: 3,
test-gradient: 2}
"""

from torch.distributions import Normal

# %% weights


def log_weights(log_joint, x, mu, log_var, eps):
    q = Normal(mu, (log_var / 2).exp())
    z = q.mean + q.stddev * eps
    return q.log_prob(z).sum(-1) - log_joint(x, z)
