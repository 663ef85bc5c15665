"""The broken program as it was given, under the new names: every question has a bug in it.

marks: {test-codes: 0, test-log-likelihood: 0, test-kl: 0, test-bound: 0,
test-weights: 0, test-train: 0, test-sample: 0, test-whole: 0}
"""

import torch
from torch.nn import functional as F

# %% pixels


def pixels(levels):
    return levels.flatten(1) / 16


# %% reparameterize


def reparameterize(mu, log_var, generator):
    sigma = torch.exp(0.5 * log_var)
    eps = torch.randn(mu.shape[-1], generator=generator)
    return mu + sigma * eps


# %% log-likelihood


def log_likelihood(x, logits):
    probability = torch.sigmoid(logits)
    return -F.binary_cross_entropy_with_logits(probability, x, reduction="none").sum(-1)


# %% kl


def kl(mu, log_var):
    return 0.5 * (mu**2 + log_var.exp() - 1 - log_var).mean(-1)


# %% elbo


def elbo(x, model, generator):
    mu, log_var = model.encode(x)
    z = reparameterize(mu, log_var, generator)
    return log_likelihood(x, model.decode(z)), kl(mu, log_var)


# %% evaluate


@torch.no_grad()
def evaluate(x, model, generator):
    mu, log_var = model.encode(x)
    return (log_likelihood(x, model.decode(mu)) - kl(mu, log_var)).mean()


# %% weights


def weights(model):
    return list(model.decoder.parameters())


# %% train


def train(loss, weights, x, epochs, learning_rate, batch_size, generator):
    optimizer = torch.optim.Adam(weights, lr=learning_rate)
    means = []
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(x), generator=generator).split(batch_size):
            value = loss(x[rows])
            value.backward()
            optimizer.step()
            total += value.item() * len(rows)
        means.append(total / len(x))
    return means


# %% fit


def fit(model, levels, epochs, generator):
    def loss(x):
        log_p, divergence = elbo(x, model, generator)
        return (divergence - log_p).mean()

    return train(loss, weights(model), pixels(levels), epochs, 0.007, 64, generator)


# %% sample


@torch.no_grad()
def sample(n, model, generator):
    z = torch.rand(n, model.latent_dim, generator=generator)
    return torch.sigmoid(model.decode(z))
