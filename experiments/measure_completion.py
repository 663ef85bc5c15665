"""Measure how a VAE and its rivals fill in pixels (chapter 14): ``python -m experiments.measure_completion [PART]``.

Written down before the run.

Question: does a VAE that was trained on whole images fill in missing pixels with less squared error than a regressor
trained for that very gap?
Measure: squared error summed over the missing pixels, on 300 test images drawn at random, the same for all. Gaps: the
lower half; 60% of the pixels, chosen at random once.
Rivals: the mean image; the other pixels of the training image whose seen pixels are nearest (of all 60,000); the best
linear map from seen to missing pixels (ridge 0.01); the regressor of chapter 12, a network seen-500-500-missing trained
for the gap with the Bernoulli log likelihood, 60,000 images, 5 epochs, three seeds.
The VAE's ways (the model that ships, one training): "best code", the most probable code given the seen pixels, 150
steps from the origin; "best of 4", four searches from draws of the prior, the most probable code kept; the chain of
Rezende et al. (2014), 30 steps, with missing pixels drawn as 0 or 1 ("draws", the chain that the theorem is about) or
set to their means ("means"), one chain and the average of eight, always the decoder's mean at the last code.
Tuning: the regressor's rate, 1e-3, 3e-3, 6e-3 or 1e-2, for the lower half, by the error on the last 5,000 training
images after 2 epochs on 20,000 others, seed 100. The search's settings are those that the chapter had before any
comparison.
Yes: the difference regressor minus best code exceeds 4.3 standard errors over the regressor's trainings (the 97.5%
point of t with 2 degrees of freedom) and 2 over the images; no: it is below minus these.

Writes book/results/completion.json: parts "tuning", "lower half" and "at random".
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from experiments import shared
from experiments.measure_denoising import by_training
from experiments.measure_uses import QUIET, SEEDS, Found, at_random, run_parts, shipped
from vaelib import data
from vaelib.distributions import bernoulli_log_prob
from vaelib.networks import mlp
from vaelib.training import fit
from vaelib.vae import VAE

RESULTS = shared.results("completion")
REGRESSOR: dict[str, Any] = {"hidden_dims": [500, 500], "epochs": 5}
RATES = [1e-3, 3e-3, 6e-3, 1e-2]
TUNING_SEED = 100
IMAGES = 300
CHAINS, CHAIN_STEPS, SEARCH_STEPS, STARTS = 8, 30, 150, 4


def lower_half(size: int) -> Tensor:
    """Return which pixels are seen."""
    return torch.arange(size) < size // 2


def at_random_pixels(size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(0)) > 0.6


GAPS: dict[str, Callable[[int], Tensor]] = {"lower half": lower_half, "at random": at_random_pixels}


def regressor(images: Tensor, seen: Tensor, rate: float, epochs: int, seed: int) -> nn.Sequential:
    """Return chapter 12's regressor: a logit of each missing pixel given the seen ones."""

    def objective(model: Any, x: Tensor, y: Any, step: int, generator: torch.Generator | None) -> Tensor:
        return bernoulli_log_prob(x, model(y), check=False)

    sizes = (int(seen.sum()), *REGRESSOR["hidden_dims"], int((~seen).sum()))
    net = mlp(sizes, generator=torch.Generator().manual_seed(seed))
    fit(net, images[:, ~seen], y=images[:, seen], epochs=epochs, learning_rate=rate, objective=objective, seed=seed,
        **QUIET)  # fmt: skip
    return net.requires_grad_(False)


def tuning(train: data.ImageData, test: data.ImageData) -> Found:
    """Choose the regressor's rate on images of the training set that it did not see; `test` is not touched."""
    fitting, held_out = (part.flatten(1) for part in (train.images[:20_000], train.images[-5000:]))
    seen, found = lower_half(fitting.shape[1]), {}
    for rate in RATES:
        net = regressor(fitting, seen, rate, 2, TUNING_SEED)
        difference = torch.sigmoid(net(held_out[:, seen])) - held_out[:, ~seen]
        found[str(rate)] = round(difference.square().sum(1).mean().item(), 3)
    best = min(RATES, key=lambda rate: found[str(rate)])
    return {"error": found, "learning_rate": best, "seed": TUNING_SEED, "summary": []}


def linear(images: Tensor, seen: Tensor, x: Tensor, ridge: float = 0.01) -> Tensor:
    """Return the missing pixels by the linear map of least squared error."""
    mean, covariance = images.mean(0), torch.cov(images.T)
    inner = covariance[seen][:, seen] + ridge * torch.eye(int(seen.sum()))
    return mean[~seen] + (x - mean)[:, seen] @ torch.linalg.solve(inner, covariance[seen][:, ~seen])


def nearest(images: Tensor, seen: Tensor, x: Tensor) -> Tensor:
    return images[torch.cdist(x[:, seen], images[:, seen]).argmin(1)][:, ~seen]


def best_code(model: VAE, x: Tensor, seen: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the most probable code given the seen pixels, and log p(seen, z) there."""
    z = z.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([z], lr=0.1)

    def log_joint() -> Tensor:
        logits = model.decode(z)[:, seen]
        return (x[:, seen] * logits - softplus(logits)).sum(1) - 0.5 * z.square().sum(1)

    for _ in range(SEARCH_STEPS):
        optimizer.zero_grad()
        (-log_joint().sum()).backward()
        optimizer.step()
    return z.detach(), log_joint().detach()


def chain(model: VAE, x: Tensor, seen: Tensor, generator: torch.Generator, draws: bool) -> Tensor:
    """Return the decoder's mean at the last code of a chain that starts from noise."""
    filled = torch.where(seen, x, torch.rand(x.shape, generator=generator))
    means = filled
    for _ in range(CHAIN_STEPS):
        mu, log_var = model.encode(filled)
        z = mu + (0.5 * log_var).exp() * torch.randn(mu.shape, generator=generator)
        means = model.mean(model.decode(z))
        drawn = torch.bernoulli(means, generator=generator) if draws else means
        filled = torch.where(seen, x, drawn)
    return means


def by_vae(model: VAE, x: Tensor, seen: Tensor) -> dict[str, Tensor]:
    """Return the missing pixels, by each of the VAE's ways."""
    generator = torch.Generator().manual_seed(0)
    code, _ = best_code(model, x, seen, torch.zeros(len(x), model.latent_dim))
    found = {"best code": model.mean(model.decode(code))}
    several = [best_code(model, x, seen, torch.randn(code.shape, generator=generator)) for _ in range(STARTS)]
    best = torch.stack([height for _, height in several]).argmax(0)
    kept = torch.stack([z for z, _ in several])[best, torch.arange(len(x))]
    found[f"best of {STARTS}"] = model.mean(model.decode(kept))
    for name, draws in (("means", False), ("draws", True)):
        chains = torch.stack([chain(model, x, seen, generator, draws) for _ in range(CHAINS)])
        found |= {f"one chain, {name}": chains[0], f"average of {CHAINS}, {name}": chains.mean(0)}
    return {name: each[:, ~seen] for name, each in found.items()}


def part_of(gap: str) -> Callable[..., Found]:
    def part(train: data.ImageData, test: data.ImageData, model: VAE | None = None, rate: float | None = None) -> Found:
        rate = rate or shared.read(RESULTS)["tuning"]["learning_rate"]
        x, images = at_random(test, IMAGES).images.flatten(1), train.images.flatten(1)
        seen = GAPS[gap](x.shape[1])
        filled: dict[str, list[Tensor]] = {
            "mean image": [images.mean(0)[~seen].expand(len(x), -1)],
            "nearest neighbour": [nearest(images, seen, x)],
            "linear": [linear(images, seen, x)],
        }
        filled |= {name: [each] for name, each in by_vae(model or shipped(), x, seen).items()}
        for seed in SEEDS:
            net = regressor(images, seen, rate, REGRESSOR["epochs"], seed)
            filled.setdefault("regressor", []).append(torch.sigmoid(net(x[:, seen])))
            print(gap, "seed", seed, flush=True)
        errors = {
            name: torch.stack([(each - x[:, ~seen]).square().sum(1) for each in several])
            for name, several in filled.items()
        }
        best = errors["best code"]
        found: Found = {
            "error": {name: by_training(each) for name, each in errors.items()},
            "differences": {name: by_training(each - best) for name, each in errors.items()},
        }
        found["summary"] = [
            {
                "question": f"Missing pixels, {gap}: does the VAE's best code beat a regressor trained for the gap?",
                "result": "squared error: best code {error[best code][mean]:.1f}, "
                "regressor {error[regressor][mean]:.1f}, "
                "linear map {error[linear][mean]:.1f}, regressor minus code {differences[regressor][mean]:+.2f}",
                "error": "{differences[regressor][se]:.2f} (over three trainings of the regressor)",
            }
        ]
        settings = {**REGRESSOR, "learning_rate": rate, "images": len(x), "seen_pixels": int(seen.sum())}
        return {**settings, **found, "seeds": SEEDS}

    return part


RUNS: dict[str, Callable[..., Found]] = {"tuning": tuning, **{gap: part_of(gap) for gap in GAPS}}
EVALUATION = {
    "tuning": "the last 5,000 training images",
    **dict.fromkeys(GAPS, "300 MNIST test images drawn at random; squared error over the missing pixels"),
}


def main() -> None:
    run_parts("measure_completion", RUNS, EVALUATION, __doc__)


if __name__ == "__main__":
    main()
