"""Always 1,000 samples, whatever n is; the estimate is right, its error is not.

marks: {test-log-density: 1, test-kl-value: 3, test-kl-batch: 2, test-prior-value: 1, test-prior-careful: 2,
test-estimate: 2, test-error: 0, test-cover: 3}
"""

import torch
from torch.distributions import Normal

# %% estimate


def kl_estimate(mu_q, log_var_q, mu_p, log_var_p, n, generator):
    q, p = Normal(mu_q, (log_var_q / 2).exp()), Normal(mu_p, (log_var_p / 2).exp())
    z = q.mean + q.stddev * torch.randn(1000, len(mu_q), generator=generator)
    values = (q.log_prob(z) - p.log_prob(z)).sum(-1)
    return values.mean(), values.std() / n**0.5
