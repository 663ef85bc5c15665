"""The trained parameters come back in the right order, but as a plain tuple and not as a LinearVAE.

marks: {test-evidence: 2, test-best-decoder: 3, test-best-weight: 2, test-elbo: 3, test-step: 0, test-train: 0,
test-gap: 2}
"""

import torch

# %% train


def train(objective, x, start, steps, learning_rate, momentum, learn_sigma):
    rates = [learning_rate] * 5 + [learning_rate if learn_sigma else 0.0]
    model, velocity, curve = start, [torch.zeros_like(value) for value in start], []
    for _ in range(steps):
        model = type(start)(*(value.detach().requires_grad_() for value in model))
        height = objective(x, model).mean()
        slopes = torch.autograd.grad(height, model)
        velocity = [momentum * u + slope for u, slope in zip(velocity, slopes, strict=True)]
        model = tuple(value + rate * u for value, rate, u in zip(model, rates, velocity, strict=True))
        curve.append(height.detach())
    return tuple(value.detach() for value in model), torch.stack(curve)
