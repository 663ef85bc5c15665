"""The gradients are not set to zero, and each step adds those of all steps before.

marks: {test-evidence: 2, test-best-decoder: 3, test-best-weight: 2, test-elbo: 3, test-step: 0, test-train: 0,
test-gap: 2}
"""

import torch

# %% train


def train(objective, x, start, steps, learning_rate, momentum, learn_sigma):
    values = [value.clone().requires_grad_() for value in start]
    optimizer = torch.optim.SGD(values if learn_sigma else values[:5], learning_rate, momentum, maximize=True)
    curve = []
    for _ in range(steps):
        height = objective(x, type(start)(*values)).mean()
        height.backward()
        optimizer.step()
        curve.append(height.detach())
    return type(start)(*(value.detach() for value in values)), torch.stack(curve)
