"""The generator is ignored and a seed of the function's own gives the same noise in each call.

marks: {test-log-density: 1, test-kl-value: 3, test-kl-batch: 2, test-prior-value: 1, test-prior-careful: 2,
test-estimate: 0, test-error: 0, test-cover: 3}
"""

import torch
from torch.distributions import Normal

# %% estimate


def kl_estimate(mu_q, log_var_q, mu_p, log_var_p, n, generator):
    q, p = Normal(mu_q, (log_var_q / 2).exp()), Normal(mu_p, (log_var_p / 2).exp())
    noise = torch.randn(n, len(mu_q), generator=torch.Generator().manual_seed(0))
    z = q.mean + q.stddev * noise
    values = (q.log_prob(z) - p.log_prob(z)).sum(-1)
    return values.mean(), values.std() / n**0.5
