"""A VAE, its training and its evaluation as a reader would write them: right, and open to planted mistakes.

`experiments.measure_doctor` replaces lines of this text by wrong ones and runs what comes out.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaelib import likelihoods
from vaelib.contract import ElboTerms, Posterior


class SmallVAE(nn.Module):
    """A VAE with a Bernoulli likelihood for images of 8 x 8 pixels in [0, 1], as rows ``(batch, 64)``."""

    def __init__(self, data_dim: int = 64, hidden_dim: int = 64, latent_dim: int = 8, seed: int = 0) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.likelihood = likelihoods.Bernoulli()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = nn.Sequential(
                nn.Linear(data_dim, hidden_dim),
                nn.ReLU(),
                nn.Linear(hidden_dim, 2 * latent_dim),
            )
            self.decoder = nn.Sequential(
                nn.Linear(latent_dim, hidden_dim),
                nn.ReLU(),
                nn.Linear(hidden_dim, data_dim),
            )

    def encode(self, x: Tensor) -> Posterior:
        """Return q(z|x)."""
        mu, log_var = self.encoder(x).chunk(2, dim=-1)
        return Posterior(mu, log_var)

    def reparameterize(self, mu: Tensor, log_var: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw z from q(z|x)."""
        sigma = torch.exp(0.5 * log_var)
        eps = torch.randn(mu.shape, generator=generator)
        return mu + sigma * eps

    def decode(self, z: Tensor) -> Tensor:
        """Return logits."""
        return self.decoder(z)

    def log_likelihood(self, x: Tensor, logits: Tensor) -> Tensor:
        """Return log p(x|z)."""
        bits = F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")
        return -bits.sum(-1)

    def kl(self, mu: Tensor, log_var: Tensor) -> Tensor:
        """Return KL(q(z|x) || N(0, I))."""
        return 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(-1)

    def elbo(self, x: Tensor, *, generator: torch.Generator | None = None) -> ElboTerms:
        """Return both terms of the bound, with one z for each image."""
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var, generator)
        return ElboTerms(self.log_likelihood(x, self.decode(z)), self.kl(mu, log_var))

    def log_weights(self, x: Tensor, n_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Return log p(x|z) + log p(z) - log q(z|x), ``(n_samples, batch)``."""
        mu, log_var = (each.expand(n_samples, *each.shape) for each in self.encode(x))
        z = self.reparameterize(mu, log_var, generator)
        eps = (z - mu) / torch.exp(0.5 * log_var)
        log_prior = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
        log_q = -0.5 * (eps**2 + log_var + math.log(2 * math.pi)).sum(-1)
        return self.log_likelihood(x, self.decode(z)) + log_prior - log_q

    def iwae_bound(self, x: Tensor, n_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Return the importance-weighted bound, ``(batch,)``."""
        log_w = self.log_weights(x, n_samples, generator)
        return torch.logsumexp(log_w, 0) - math.log(n_samples)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return mean images of codes from the prior."""
        z = torch.randn(n, self.latent_dim, generator=generator)
        return torch.sigmoid(self.decode(z))


def pixels(levels: Tensor) -> Tensor:
    """Return grey levels of 0 to 16 as rows of pixels in [0, 1]."""
    return levels.flatten(1).float() / 16


def split(x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return images of training and 300 others."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    return x[order[300:]], x[order[:300]]


@torch.no_grad()
def evaluate(model: SmallVAE, x: Tensor, generator: torch.Generator) -> float:
    """Return the mean ELBO."""
    return model.elbo(x, generator=generator).elbo.mean().item()


def train(
    model: SmallVAE,
    x: Tensor,
    held_out: Tensor,
    epochs: int,
    generator: torch.Generator,
    state: dict[str, Any] | None = None,
    rate: float = 3e-3,
    batch_size: int = 64,
) -> dict[str, Any]:
    """Train, or go on from a state; return the state, with the ELBO of each epoch and the weights of the best."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    done, history = 0, []
    best: tuple[float, dict[str, Tensor]] = (-math.inf, {})
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        done, history, best = state["done"], list(state["history"]), state["best"]
    for _ in range(done, epochs):
        total = 0.0
        for rows in torch.randperm(len(x), generator=generator).split(batch_size):
            elbo = model.elbo(x[rows], generator=generator).elbo
            optimizer.zero_grad()
            (-elbo.mean()).backward()
            optimizer.step()
            total += elbo.sum().item()
        value = evaluate(model, held_out, torch.Generator().manual_seed(0))
        history.append((total / len(x), value))
        if value > best[0]:
            best = (value, copy.deepcopy(model.state_dict()))
    weights = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "generator": generator.get_state()}
    return copy.deepcopy(weights | {"done": epochs, "history": history, "best": best})
