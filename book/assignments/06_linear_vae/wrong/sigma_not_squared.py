"""The standard deviation stands where the variance belongs; for sigma = 1 nobody sees it.

marks: {test-evidence: 0, test-best-decoder: 3, test-best-weight: 0, test-elbo: 3, test-step: 2, test-train: 2,
test-gap: 0}
"""

import math

import torch

# %% evidence


def mean_log_evidence(mean, covariance, weight, bias, sigma):
    model = weight @ weight.T + sigma * torch.eye(len(bias))
    scatter = covariance + torch.outer(mean - bias, mean - bias)
    distance = torch.linalg.solve(model, scatter).trace()
    return -0.5 * (len(bias) * math.log(2 * math.pi) + torch.logdet(model) + distance)


# %% best-weight


def best_weight(covariance, latent_dim, sigma):
    eigenvalues, directions = torch.linalg.eigh(covariance)
    return directions[:, -latent_dim:] * (eigenvalues[-latent_dim:] - sigma).clamp(min=0).sqrt()


# %% gap


def smallest_gap(weight, sigma):
    precision = torch.eye(weight.shape[1]) + weight.T @ weight / sigma
    return 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
