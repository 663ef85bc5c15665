"""The start is trained itself, in place of a copy of it.

marks: {test-evidence: 2, test-best-decoder: 3, test-best-weight: 2, test-elbo: 3, test-step: 0, test-train: 2,
test-gap: 2}
"""

import torch

# %% train


def train(objective, x, start, steps, learning_rate, momentum, learn_sigma):
    values = [value.detach().requires_grad_() for value in start]
    optimizer = torch.optim.SGD(values if learn_sigma else values[:5], learning_rate, momentum, maximize=True)
    curve = []
    for _ in range(steps):
        optimizer.zero_grad()
        height = objective(x, type(start)(*values)).mean()
        height.backward()
        optimizer.step()
        curve.append(height.detach())
    return type(start)(*(value.detach() for value in values)), torch.stack(curve)
