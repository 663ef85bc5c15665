"""The bias is taken for the mean of the data, and how far it is from it costs nothing.

marks: {test-evidence: 0, test-best-decoder: 3, test-best-weight: 2, test-elbo: 3, test-step: 2, test-train: 2,
test-gap: 2}
"""

import math

import torch

# %% evidence


def mean_log_evidence(mean, covariance, weight, bias, sigma):
    model = weight @ weight.T + sigma**2 * torch.eye(len(bias))
    distance = torch.linalg.solve(model, covariance).trace()
    return -0.5 * (len(bias) * math.log(2 * math.pi) + torch.logdet(model) + distance)
