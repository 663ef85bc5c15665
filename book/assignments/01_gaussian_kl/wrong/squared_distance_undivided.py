"""The distance of the means is not measured in standard deviations of p.

marks: {test-log-density: 1, test-kl-value: 0, test-kl-batch: 0, test-prior-value: 1, test-prior-careful: 2,
test-estimate: 2, test-error: 2, test-cover: 3}
"""

import torch

# %% kl


def kl_gaussian(mu_q, log_var_q, mu_p, log_var_p):
    ratio = torch.exp(log_var_q - log_var_p)
    return 0.5 * (ratio - 1 - torch.log(ratio) + (mu_q - mu_p) ** 2).sum(-1)
