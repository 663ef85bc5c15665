"""Annealed importance sampling: the log evidence from below, and for simulated images from above as well."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaelib._inputs import Images, images_and_labels, in_own_type
from vaelib.contract import encoded, needed
from vaelib.distributions import gaussian_log_prob, standard_normal, where_to_draw
from vaelib.networks import check_positive_integer, check_positive_number, evaluating, first_tensor

__all__ = ["Annealed", "annealed_log_weights"]

# Numbers in the decoded images of all chains at once, as in `vaelib.evaluation`.
_NUMBERS = 2**20


class Annealed(NamedTuple):
    """The logarithm of each chain's weight, ``(n_chains, N)``, and the share of moves accepted, ``(N,)``."""

    log_w: Tensor
    acceptance: Tensor


@torch.no_grad()
def annealed_log_weights(
    model: Any,
    x: Images,
    n_temperatures: int = 100,
    n_chains: int = 4,
    codes: Tensor | None = None,
    step_size: float = 0.2,
    n_leapfrog: int = 5,
    generator: torch.Generator | None = None,
) -> Annealed:
    """Return log weights of chains that lead from q(z|x) to the posterior, or back from codes of the posterior.

    The chains pass the densities ``f_t(z) = q(z|x)^(1 - b_t) p(x, z)^b_t``, b_t rising evenly from 0 to 1 in
    T = n_temperatures steps. Each step adds ``(b_t - b_(t-1)) log w(z)``, ``w(z) = p(x, z) / q(z|x)``, and moves z by
    Hamiltonian Monte Carlo, which leaves f_t as it is. With T = 1 the weight is that of `evaluation.log_evidence`.

    Forward: ``E[w] = p(x)``, so that ``log 1/M sum_m w_m`` errs downwards. Backward from codes, which have to be exact
    draws from p(z|x), such as the z from which a simulated x was drawn: ``E[1 / w] = 1 / p(x)``, so that
    ``-log 1/M sum_m 1 / w_m`` errs upwards. The two enclose the log evidence of simulated images (bidirectional Monte
    Carlo); of an image of which no exact code is known there is the lower one alone.

    Args:
        model: a VAE, with the prior N(0, I); it is evaluated in eval mode and keeps its own.
        x: images ``(N, H, W)``, ``(N, C, H, W)`` or ``(N, D)``, or ImageData.
        n_temperatures: the number ``T`` of steps.
        n_chains: the number ``M`` of chains for each image.
        codes: where the chains begin if they run backward, ``(N, K)``; None runs them forward from q(z|x).
        step_size: of the leapfrog integrator, in standard deviations of q(z|x). Acceptance should be 0.6 to 0.95.
        n_leapfrog: leapfrog steps in a move.
        generator: of the noise; the same noise is used at every call unless one is given.

    Shapes:
        `Annealed` of ``(n_chains, N)``, in nats, and ``(N,)``.

    Raises:
        ValueError: for counts below 1, a step size that is not positive, codes of another shape, or images that the
            model refuses.
        TypeError: for what are no images, or a model without what is needed.

    Source:
        Neal (2001); Grosse et al. (2015); Wu et al. (2017), who begin at the prior; chapter 10.
    """
    for name, value in {"n_temperatures": n_temperatures, "n_chains": n_chains, "n_leapfrog": n_leapfrog}.items():
        check_positive_integer(name, value)
    check_positive_number("step_size", step_size)
    needed(model, "encode", "decode", "log_likelihood", "check", "latent_dim", by="annealed_log_weights")
    images, like = in_own_type(model, images_and_labels(x)[0]), first_tensor(model)
    if codes is not None and codes.shape != (len(images), model.latent_dim):
        raise ValueError(f"codes must be {(len(images), model.latent_dim)}, not {tuple(codes.shape)}")
    if generator is None:
        generator = torch.Generator(device=like.device).manual_seed(0)
    found = [Annealed(like.new_empty(n_chains, 0), like.new_empty(0))]
    at_once = max(1, _NUMBERS // (n_chains * max(1, images[:1].numel())))
    with evaluating(model):
        for start in range(0, len(images), at_once):
            rows = slice(start, start + at_once)
            chains = _Chains(model, images[rows].to(like.device), step_size, n_leapfrog, generator)
            u = standard_normal((n_chains, *chains.mu.shape), like, generator)
            if codes is not None:
                u = ((codes[rows].to(u) - chains.mu) / chains.sigma).expand_as(u)
            found.append(chains.run(u, n_temperatures, backward=codes is not None))
    return Annealed(torch.cat([each.log_w for each in found], 1), torch.cat([each.acceptance for each in found]))


class _Chains:
    """The chains of a batch of images, in the coordinates ``u = (z - mu) / sigma`` in which q(z|x) is N(0, I)."""

    def __init__(self, model: Any, x: Tensor, step_size: float, n_leapfrog: int, generator: torch.Generator) -> None:
        self.model, self.x, self.generator = model, model.check(x), generator
        self.step_size, self.n_leapfrog = step_size, n_leapfrog
        self.mu, self.log_var = encoded(model, x, by="annealed_log_weights")
        self.sigma = (0.5 * self.log_var).exp()

    def run(self, u: Tensor, n_temperatures: int, backward: bool) -> Annealed:
        """Return the weights of chains that begin at u."""
        log_w, accepted = u.new_zeros(u.shape[:2]), u.new_zeros(u.shape[:2])
        at = self.log_joint(u)
        for t in range(1, n_temperatures + 1):
            temperature = (n_temperatures + 1 - t if backward else t) / n_temperatures
            if not backward:
                log_w += self.log_ratio(u, at[0]) / n_temperatures
            u, at, moved = self.move(u, at, temperature)
            if backward:
                log_w += self.log_ratio(u, at[0]) / n_temperatures
            accepted += moved
        return Annealed(log_w, accepted.mean(0) / n_temperatures)

    def log_joint(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x, z) and its gradient with respect to u."""
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            z = self.mu + self.sigma * u
            value = self.model.log_likelihood(self.x, self.model.decode(z))
            value = value + gaussian_log_prob(z, torch.zeros_like(z), torch.zeros_like(z))
            return value.detach(), torch.autograd.grad(value.sum(), u)[0]

    def log_ratio(self, u: Tensor, log_joint: Tensor) -> Tensor:
        """Return log w(z) = log p(x, z) - log q(z|x)."""
        return log_joint - gaussian_log_prob(self.mu + self.sigma * u, self.mu, self.log_var)

    def move(
        self, u: Tensor, at: tuple[Tensor, Tensor], temperature: float
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Return u after one move of Hamiltonian Monte Carlo, log p(x, z) there with its gradient, and who moved.

        The energy is ``(1 - b) |u|^2 / 2 - b log p(x, z)``. Momenta are drawn afresh, and the step size is multiplied
        by a random number between 0.8 and 1.2, so that no orbit closes.
        """

        def force(u: Tensor, gradient: Tensor) -> Tensor:
            return temperature * gradient - (1 - temperature) * u

        def energy(u: Tensor, log_joint: Tensor) -> Tensor:
            return 0.5 * (1 - temperature) * u.square().sum(-1) - temperature * log_joint

        step = self.step_size * (0.8 + 0.4 * self.uniform(u))[..., None]
        momentum = standard_normal(u.shape, u, self.generator)
        begin = energy(u, at[0]) + 0.5 * momentum.square().sum(-1)
        there, now = u, at
        for _ in range(self.n_leapfrog):
            momentum = momentum + 0.5 * step * force(there, now[1])
            there = there + step * momentum
            now = self.log_joint(there)
            momentum = momentum + 0.5 * step * force(there, now[1])
        change = energy(there, now[0]) + 0.5 * momentum.square().sum(-1) - begin
        moved = self.uniform(u).log() < -change
        chosen = torch.where(moved[..., None], there, u), torch.where(moved[..., None], now[1], at[1])
        return chosen[0], (torch.where(moved, now[0], at[0]), chosen[1]), moved

    def uniform(self, u: Tensor) -> Tensor:
        """Return a random number between 0 and 1 for each chain."""
        device = where_to_draw(u, self.generator)
        return torch.rand(u.shape[:2], dtype=u.dtype, device=device, generator=self.generator).to(u.device)
