"""The encoder takes its step, and then the decoder sees the new encoder: not one step along one gradient.

marks: {test-evidence: 2, test-best-decoder: 3, test-best-weight: 2, test-elbo: 3, test-step: 0, test-train: 2,
test-gap: 2}
"""

import torch

# %% train


def train(objective, x, start, steps, learning_rate, momentum, learn_sigma):
    model, velocity, curve = start, [torch.zeros_like(value) for value in start], []
    for _ in range(steps):
        curve.append(objective(x, model).mean().detach())
        for part in (range(3), range(3, 6) if learn_sigma else range(3, 5)):
            values = [value.detach().requires_grad_() for value in model]
            slopes = torch.autograd.grad(objective(x, type(start)(*values)).mean(), values)
            for k in part:
                velocity[k] = momentum * velocity[k] + slopes[k]
                values[k] = values[k] + learning_rate * velocity[k]
            model = type(start)(*values)
    return type(start)(*(value.detach() for value in model)), torch.stack(curve).detach()
