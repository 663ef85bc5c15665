"""The gradients of earlier steps are never cleared.

marks: {test-condition: 1, test-regressor: 2, test-floors: 2, test-kl: 1, test-likelihood: 1, test-elbo: 2,
test-gradient: 1, test-train: 0, test-whole: 0, test-complete: 2, test-score: 2}
"""

import torch

# %% train


def train(model, objective, steps, learning_rate):
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    losses = []
    for _ in range(steps):
        loss = -objective().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return torch.stack(losses)
