"""The log density is differentiated while z moves with its parameters.

marks: {test-correlated: 1, test-truncated: 2, test-score: 2, test-score-gradients: 0, test-pathwise-gradients: 2,
test-coins: 3, test-variances: 3, test-best-baseline: 1}
"""

import torch
from torch.distributions import Normal

# %% score-gradients


def score_gradients(f, mu, log_sigma, eps):
    inputs = [each.expand(eps.shape).clone().requires_grad_() for each in (mu, log_sigma)]
    z = inputs[0] + inputs[1].exp() * eps
    scores = torch.autograd.grad(Normal(inputs[0], inputs[1].exp()).log_prob(z).sum(), inputs)
    values = f(z.detach())[:, None]
    return values * scores[0], values * scores[1]
