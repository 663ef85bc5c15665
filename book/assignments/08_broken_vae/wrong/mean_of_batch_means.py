"""The gradients are cleared, but the last, smaller batch now counts as much as the others.

marks: {test-codes: 2, test-log-likelihood: 2, test-kl: 2, test-bound: 2,
test-weights: 1, test-train: 0, test-sample: 1, test-whole: 2}
"""

import torch

# %% train


def train(loss, weights, x, epochs, learning_rate, batch_size, generator):
    optimizer = torch.optim.Adam(weights, lr=learning_rate)
    means = []
    for _ in range(epochs):
        losses = []
        for rows in torch.randperm(len(x), generator=generator).split(batch_size):
            optimizer.zero_grad()
            value = loss(x[rows])
            value.backward()
            optimizer.step()
            losses.append(value.item())
        means.append(sum(losses) / len(losses))
    return means
