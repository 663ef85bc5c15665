"""Measure two long comparisons of chapter 14 and record how: ``python -m experiments.measure_uses [NAME ...]``.

Writes book/results/uses.json. "left out" trains one VAE without each digit in turn and scores that digit as an anomaly;
"denoising" trains the denoising autoencoder on as many images, for as long, as the VAE that ships, once with noisy
images clipped to [0, 1] and once as they are. Names choose among the two. Each takes a few minutes on one core.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from experiments import shared
from vaelib import data
from vaelib.autoencoder import Autoencoder
from vaelib.distributions import bernoulli_log_prob
from vaelib.training import fit
from vaelib.vae import VAE

RESULTS = shared.results("uses")
SEED = 0
SMALL: dict[str, Any] = {"hidden_dims": [400], "latent_dim": 20}
LEFT_OUT = {**SMALL, "images": 20_000, "epochs": 4, "learning_rate": 5e-3}
DENOISING = {**SMALL, "noise": 0.3, "epochs": 20, "learning_rate": 3e-3}


def left_out(train: data.ImageData, test: data.ImageData, classes: range = range(10)) -> dict[str, Any]:
    """Return, for each class, the AUROC with which a VAE that never saw it tells it from the other nine."""
    found: dict[str, list[float]] = {"minus_elbo": [], "log_ratio": []}
    for k in classes:
        rows = (train.labels != k).nonzero().flatten()[: LEFT_OUT["images"]]
        model = VAE(train.images[0].numel(), LEFT_OUT["hidden_dims"], LEFT_OUT["latent_dim"], seed=SEED)
        known = train.subset(rows)
        fit(model, known, epochs=LEFT_OUT["epochs"], learning_rate=LEFT_OUT["learning_rate"], seed=SEED, device="cpu",
            progress=False)  # fmt: skip
        minus_elbo, log_ratio = scores(model, test.images.flatten(1), known.images.flatten(1))
        new = test.labels == k
        found["minus_elbo"].append(auroc(minus_elbo[new], minus_elbo[~new]))
        found["log_ratio"].append(auroc(log_ratio[new], log_ratio[~new]))
        print(f"without {k}: AUROC {found['minus_elbo'][-1]:.3f}, ratio {found['log_ratio'][-1]:.3f}", flush=True)
    return {**LEFT_OUT, "classes": list(classes), "auroc": {name: rounded(values) for name, values in found.items()}}


def denoising(train: data.ImageData, test: data.ImageData) -> dict[str, Any]:
    """Return the squared error, and its standard error, of two denoising autoencoders over 1,000 noisy test images."""
    error = {"clipped": restored(train, test, clip=True), "unclipped": restored(train, test, clip=False)}
    return {**DENOISING, "images": len(train), "error": error}


def restored(train: data.ImageData, test: data.ImageData, clip: bool) -> list[float]:
    """Train a denoising autoencoder; return mean and standard error of its squared error, noise clipped or not."""

    def spoil(x: Tensor, generator: torch.Generator | None) -> Tensor:
        noisy = x + DENOISING["noise"] * torch.randn(x.shape, generator=generator)
        return noisy.clamp(0, 1) if clip else noisy

    def objective(model: Any, x: Tensor, y: Any, step: int, generator: torch.Generator | None) -> Tensor:
        return -(x - model.decode(model.encoder(spoil(x, generator)))).square().sum(1)

    model = Autoencoder(train.images[0].numel(), DENOISING["hidden_dims"], DENOISING["latent_dim"], seed=SEED)
    rate = DENOISING["learning_rate"]
    # On the CPU, since the objective draws its noise there.
    fit(model, train, epochs=DENOISING["epochs"], learning_rate=rate, objective=objective, device="cpu", seed=SEED,
        progress=False)  # fmt: skip
    x = test.images[:1000].flatten(1)
    with torch.no_grad():
        cleaned = model.decode(model.encode(spoil(x, torch.Generator().manual_seed(SEED)))).clamp(0, 1)
    error = (x - cleaned).square().sum(1)
    spread = (error.std() / len(error) ** 0.5).item()
    print(f"clip={clip}: squared error {error.mean():.2f} +- {spread:.2f}", flush=True)
    return [round(error.mean().item(), 3), round(spread, 3)]


@torch.no_grad()
def scores(model: VAE, x: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Return minus the ELBO (mean of 5 draws of z), and that plus the log likelihood under independent pixels."""
    elbo = model.elbo(x, n_samples=5, generator=torch.Generator().manual_seed(SEED)).elbo
    return -elbo, bernoulli_log_prob(x, torch.logit(train.mean(0), eps=1e-3)) - elbo


def auroc(anomalies: Tensor, normal: Tensor) -> float:
    """Return the share of pairs in which the anomaly has the higher score."""
    place = torch.searchsorted(normal.sort().values, anomalies)
    return (place / len(normal)).mean().item()


def rounded(values: list[float]) -> list[float]:
    return [round(value, 4) for value in values]


EVALUATION = {
    "left out": "10,000 MNIST test images, grey pixels, not binarised; ELBO from 5 samples of z",
    "denoising": "the first 1,000 MNIST test images; squared error summed over the pixels, mean and standard error",
}
RUNS: dict[str, Callable[[data.ImageData, data.ImageData], dict[str, Any]]] = {
    "left out": left_out,
    "denoising": denoising,
}


def main() -> None:
    names = list(shared.chosen(RUNS, shared.read(RESULTS), __doc__))
    train, test = data.load("mnist"), data.load("mnist", "test")
    for name in names:
        found = {
            **RUNS[name](train, test),
            "seed": SEED,
            "evaluation": EVALUATION[name],
            "command": f'python -m experiments.measure_uses "{name}"',
            **shared.provenance(),
        }
        shared.store(RESULTS, found, name)


if __name__ == "__main__":
    main()
