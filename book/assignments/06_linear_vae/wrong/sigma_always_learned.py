"""The noise is trained even where it was to be held.

marks: {test-evidence: 2, test-best-decoder: 3, test-best-weight: 2, test-elbo: 3, test-step: 0, test-train: 0,
test-gap: 2}
"""

import torch

# %% train


def train(objective, x, start, steps, learning_rate, momentum, learn_sigma):
    model, velocity, curve = start, [0.0] * 6, []
    for _ in range(steps):
        model = type(start)(*(value.detach().requires_grad_() for value in model))
        height = objective(x, model).mean()
        slopes = torch.autograd.grad(height, model)
        velocity = [momentum * u + slope for u, slope in zip(velocity, slopes, strict=True)]
        moved = [value + learning_rate * u for value, u in zip(model, velocity, strict=True)]
        model = moved
        curve.append(height.detach())
    return type(start)(*(value.detach() for value in model)), torch.stack(curve)
