"""Measure how well a VAE and its rivals remove noise (chapter 14): ``python -m experiments.measure_denoising [PART]``.

Written down before the run.

Question: does a VAE, asked for the most probable code behind a noisy image, denoise MNIST better than a network trained
to denoise, which has no narrow code?
Measure: squared error, summed over the pixels, on the same 1,000 test images, drawn at random, with the same noise of
0.1, 0.2, 0.3, 0.5 and 0.8; differences from the VAE for each image.
Rivals: the noisy image clipped to [0, 1]; the best linear map, computed for each level from mean and covariance of the
training images; a network 784-500-784 trained at noise 0.3 alone ("at 0.3"); the same trained at levels drawn between
0.05 and 0.85 and not told which ("all levels"). The networks see the noisy image as it is, 60,000 training images, 8
epochs; the VAE is the model that ships, one training on the same images,
20 epochs. The search knows the level, as the linear map does.
Tuning: the networks' rate, 1e-3, 2e-3, 4e-3 or 8e-3, by the error of "at 0.3" on the last 5,000 training images after 3
epochs on 20,000 others, seed 100. The search: 60 steps of 0.1, fixed in the chapter before any comparison.
Yes, at one level: the VAE's error is lower by more than 4.3 standard errors (the 97.5% point of t with 2 degrees of
freedom) over three trainings of the network, and by more than 2 standard errors over the images; no: higher by as much.

Writes book/results/denoising.json: parts "tuning", "at 0.3", "all levels" and "methods", in this order.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from experiments import shared
from experiments.measure_uses import KEPT, QUIET, SEEDS, Found, at_random, run_parts, shipped, summary
from vaelib import data
from vaelib.networks import mlp
from vaelib.training import fit
from vaelib.vae import VAE

RESULTS = shared.results("denoising")
LEVELS = [0.1, 0.2, 0.3, 0.5, 0.8]
HIDDEN = 500
EPOCHS = 8
RATES = [1e-3, 2e-3, 4e-3, 8e-3]
TUNING_SEED = 100
IMAGES = 1000
TRAINED_AT: dict[str, tuple[float, float]] = {"at 0.3": (0.3, 0.3), "all levels": (0.05, 0.85)}


def noisy(x: Tensor, level: float, seed: int = 0) -> Tensor:
    return x + level * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def squared_error(x_hat: Tensor, x: Tensor) -> Tensor:
    return (x_hat - x).square().sum(1)


def denoiser(images: Tensor, levels: tuple[float, float], rate: float, epochs: int, seed: int) -> nn.Sequential:
    """Return a network without a narrow code, trained to give back the clean image."""
    low, high = levels

    def objective(model: Any, x: Tensor, y: Any, step: int, generator: torch.Generator | None) -> Tensor:
        level = low + (high - low) * torch.rand(len(x), 1, generator=generator)
        return -squared_error(model(x + level * torch.randn(x.shape, generator=generator)), x)

    size = images.shape[1]
    net = mlp((size, HIDDEN, size), generator=torch.Generator().manual_seed(seed))
    fit(net, images, epochs=epochs, learning_rate=rate, objective=objective, seed=seed, **QUIET)
    return net.requires_grad_(False)


def tuning(train: data.ImageData, test: data.ImageData) -> Found:
    """Choose the rate of the networks on images of the training set that they did not see; `test` is not touched."""
    fitting, held_out = (part.flatten(1) for part in (train.images[:20_000], train.images[-5000:]))
    found = {}
    for rate in RATES:
        net = denoiser(fitting, TRAINED_AT["at 0.3"], rate, 3, TUNING_SEED)
        found[str(rate)] = round(squared_error(net(noisy(held_out, 0.3)).clamp(0, 1), held_out).mean().item(), 3)
        print(f"rate {rate}: {found[str(rate)]}", flush=True)
    best = min(RATES, key=lambda rate: found[str(rate)])
    return {"error": found, "learning_rate": best, "seed": TUNING_SEED, "summary": []}


def network(kind: str) -> Callable[..., Found]:
    def part(train: data.ImageData, test: data.ImageData, rate: float | None = None) -> Found:
        rate = rate or shared.read(RESULTS)["tuning"]["learning_rate"]
        x, errors = at_random(test, IMAGES).images.flatten(1), []
        for seed in SEEDS:
            net = denoiser(train.images.flatten(1), TRAINED_AT[kind], rate, EPOCHS, seed)
            errors.append([squared_error(net(noisy(x, level)).clamp(0, 1), x) for level in LEVELS])
            print(kind, seed, [f"{error.mean():.2f}" for error in errors[-1]], flush=True)
        table = torch.stack([torch.stack(error) for error in errors])  # (seeds, levels, images)
        KEPT.mkdir(parents=True, exist_ok=True)
        torch.save(table, KEPT / f"denoising {kind}.pt")
        by_level = {str(level): by_training(table[:, k]) for k, level in enumerate(LEVELS)}
        settings = {"hidden_dims": [HIDDEN], "epochs": EPOCHS, "learning_rate": rate, "images": len(train)}
        return {**settings, "levels": list(TRAINED_AT[kind]), "error": by_level, "seeds": SEEDS, "summary": []}

    return part


def by_training(errors: Tensor) -> Found:
    """Return mean, standard error over trainings and over images, and the means: errors are ``(seeds, images)``."""
    found = summary(errors.mean(1)) if len(errors) > 1 else {"mean": round(errors.mean().item(), 4)}
    over_images = summary(errors.mean(0))["se"]
    return found | {"se_images": over_images, "by_seed": [round(value, 3) for value in errors.mean(1).tolist()]}


def linear_map(train: Tensor, level: float) -> Callable[[Tensor], Tensor]:
    """Return the linear map of least squared error: E[x|noisy] for Gaussian images with this mean and covariance."""
    mean, covariance = train.mean(0), torch.cov(train.T)
    matrix = torch.linalg.solve(covariance + level**2 * torch.eye(len(mean)), covariance)
    return lambda x: mean + (x - mean) @ matrix


def inferred(model: VAE, observed: Tensor, level: float, steps: int = 60) -> Tensor:
    """Return the decoder's mean at the most probable code behind a noisy image (chapter 14)."""
    z = model.encode(observed.clamp(0, 1)).mu.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([z], lr=0.1)
    for _ in range(steps):
        misfit = squared_error(model.mean(model.decode(z)), observed) / (2 * level**2)
        loss = (misfit + 0.5 * z.square().sum(1)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.mean(model.decode(z.detach()))


def methods(train: data.ImageData, test: data.ImageData, model: VAE | None = None) -> Found:
    x, images = at_random(test, IMAGES).images.flatten(1), train.images.flatten(1)
    model = model or shipped()
    tables = {kind: KEPT / f"denoising {kind}.pt" for kind in TRAINED_AT}
    networks = {kind: torch.load(file, weights_only=True) for kind, file in tables.items() if file.is_file()}
    found: Found = {"error": {}, "differences": {}}
    for k, level in enumerate(LEVELS):
        seen = noisy(x, level)
        errors = {
            "clipped": squared_error(seen.clamp(0, 1), x)[None],
            "linear": squared_error(linear_map(images, level)(seen).clamp(0, 1), x)[None],
            "vae, one pass": squared_error(model.reconstruct(seen.clamp(0, 1)), x)[None],
            "vae, inferred": squared_error(inferred(model, seen, level), x)[None],
            **{kind: table[:, k] for kind, table in networks.items()},
        }
        found["error"][str(level)] = {name: by_training(each) for name, each in errors.items()}
        vae = errors["vae, inferred"]
        gaps = {name: by_training(each - vae) for name, each in errors.items() if name != "vae, inferred"}
        found["differences"][str(level)] = gaps
        print(level, {name: f"{each.mean():.2f}" for name, each in errors.items()}, flush=True)
    found["summary"] = [
        {
            "question": f"Noise of {level}: does the VAE's inferred code beat a denoiser without a narrow code?",
            "result": "squared error, denoiser minus VAE: "
            + ", ".join(f"trained {kind} {{differences[{level}][{kind}][mean]:+.2f}}" for kind in networks),
            "error": ", ".join(f"{{differences[{level}][{kind}][se_images]:.2f}}" for kind in networks)
            + " (paired, over 1,000 images)",
        }
        for level in (0.1, 0.3, 0.8)
    ]
    return {"images": len(x), **found, "seeds": SEEDS}


EVALUATION = dict.fromkeys(
    ("at 0.3", "all levels", "methods"),
    "1,000 MNIST test images drawn at random, the same for all; squared error summed over the pixels, mean",
) | {"tuning": "the last 5,000 training images"}
RUNS: dict[str, Callable[..., Found]] = {
    "tuning": tuning,
    "at 0.3": network("at 0.3"),
    "all levels": network("all levels"),
    "methods": methods,
}


def main() -> None:
    run_parts("measure_denoising", RUNS, EVALUATION, __doc__)


if __name__ == "__main__":
    main()
