"""The gradients are set to zero between the backward pass and the step: nothing moves.

marks: {test-codes: 2, test-log-likelihood: 2, test-kl: 2, test-bound: 2,
test-weights: 1, test-train: 0, test-sample: 1, test-whole: 0}
"""

import torch

# %% train


def train(loss, weights, x, epochs, learning_rate, batch_size, generator):
    optimizer = torch.optim.Adam(weights, lr=learning_rate)
    means = []
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(x), generator=generator).split(batch_size):
            value = loss(x[rows])
            value.backward()
            optimizer.zero_grad()
            optimizer.step()
            total += value.item() * len(rows)
        means.append(total / len(x))
    return means
