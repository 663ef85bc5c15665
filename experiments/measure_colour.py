"""Colour likelihoods: bits per dimension of photographs' bytes under a Gaussian and a discretised logistic.

Written before the first full run. A first look at the speed (one discretised logistic, 10 and 20 epochs) had been seen,
no comparison.

Question. Which likelihood gives patches of photographs the fewest bits: Gaussian, sigma 1; Gaussian, sigma learned;
discretised logistic?
Measure: bits per dimension of the bytes, an upper bound: minus the ELBO of a *probability*. Of a Gaussian that is its
mass on each level's interval (that of 0 and of 1 open to the outside), computed by the error function, not the density
at the level with which it was trained. All 182 test patches, four draws of z.
Rivals: a Gaussian *trained* on this mass (is it the shape, or density against probability?); sigma 1 with another sigma
for the report alone, the best on validation pictures (is it the number only, or what was learned with it?); no model:
a uniform byte (8 bits), the bytes' histogram, the difference from the left neighbour, PNG (measure_pictures).
The same chance. One network (convolutions 16, 32; K = 32), steps, batches, order; scales start where they fit the mean
image; the rate from RATES by the bits of validation pictures, which lie in another region than those to fit (TUNING
seed); an edge of the grid that wins is widened once. Then three other seeds.
"A is better than B": the 95% interval of the paired difference over seeds (Student's t, two degrees of freedom) lies
below zero. Expected: sigma 1 worse than a uniform byte; learned and logistic near each other.

With OMP_NUM_THREADS=1 it takes about six minutes.
"""

import math
import statistics
import time
from typing import Any, cast

import torch
from torch import Tensor

from experiments import shared
from vaelib import data
from vaelib.likelihoods import DiscretisedLogistic, Gaussian
from vaelib.networks import conv_decoder, conv_encoder
from vaelib.training import fit
from vaelib.vae import VAE

RESULTS = shared.results("colour")
SHAPE = (3, 32, 32)
CHANNELS, LATENT = (16, 32), 32
STEPS, BATCH = 660, 32
RATES = [0.001, 0.003, 0.01]
TUNING = 10
SEEDS = [0, 1, 2]
FEW = [100, 400, 1600]
T = {3: 4.303, 5: 2.776}  # Student's t, 97.5%, for so many numbers
HALF = 0.5 / 255


def log_mass(x: Tensor, mean: Tensor, sigma: Tensor | float) -> Tensor:
    """Return log of the normal's probability of each level's interval; those of 0 and of 1 are open: as x."""
    upper, lower = (x + HALF - mean) / sigma, (x - HALF - mean) / sigma
    upper = upper.masked_fill(x > 1 - HALF, 40.0)  # float32's exp(-800) is 0
    lower = lower.masked_fill(x < HALF, -40.0)
    turned = (lower + upper) > 0  # in the left tail both are small, and the difference loses no digits
    upper, lower = torch.where(turned, -lower, upper), torch.where(turned, -upper, lower)
    high, low = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
    return high + torch.log(-torch.expm1((low - high).clamp(max=-1e-6)))


class DiscretisedGaussian(Gaussian):
    """The Gaussian's mass on each level's interval in the place of its density."""

    name = "discretised_gaussian"

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        return log_mass(x, decoded, self.log_sigma.exp()).sum(-1)


ARMS: dict[str, Any] = {
    "Gaussian, sigma 1": lambda: Gaussian(1.0),
    "Gaussian, learned": lambda: Gaussian("learned"),
    "Gaussian's mass, learned": lambda: DiscretisedGaussian("learned"),
    "discretised logistic": DiscretisedLogistic,
}
LOGISTIC = "discretised logistic"


def patches() -> tuple[Tensor, Tensor]:
    """Return patches to fit, (2, 50, 35, 3, 32, 32) as they lie in both photographs, and for validation, (78, ...)."""
    grid = data.load("patches").images.reshape(2, 50, 47, *SHAPE)
    return grid[:, :, :35], grid[:, ::4, 38::4].reshape(-1, *SHAPE)  # column 34 ends at pixel 304, 38 begins there


def train(arm: str, images: Tensor, rate: float, seed: int, steps: int = STEPS) -> VAE:
    """Return a trained model, its scale started where it fits the mean image."""
    likelihood = ARMS[arm]()
    deviation = (images - images.mean(0)).square().mean().sqrt()
    if arm == LOGISTIC:
        likelihood.log_scale.data.copy_(torch.log(deviation * math.sqrt(3) / math.pi))
    elif arm != "Gaussian, sigma 1":
        likelihood.log_sigma.data.copy_(deviation.log())
    generator = torch.Generator().manual_seed(seed)
    encoder = conv_encoder(SHAPE, CHANNELS, 2 * LATENT, generator=generator)
    decoder = conv_decoder(SHAPE, CHANNELS, LATENT, generator=generator)
    model = VAE(SHAPE, (), LATENT, likelihood=likelihood, encoder=encoder, decoder=decoder)
    epochs = max(1, round(steps / math.ceil(len(images) / BATCH)))
    fit(model, images, epochs=epochs, batch_size=BATCH, learning_rate=rate, seed=seed, progress=False)
    return model


@torch.no_grad()
def bits(model: VAE, images: Tensor, sigma: float | None = None, draws: int = 4) -> dict[str, float]:
    """Return bits per dimension of the bytes, of which KL, and the pixels' root mean squared error.

    `sigma`: for a Gaussian, in the place of its own.
    """
    model.eval()
    generator, likelihood = torch.Generator().manual_seed(0), model.likelihood
    x, terms = images.flatten(1), model.elbo(images, generator=generator)
    mu, log_var = model.encode(images)
    nats, error = torch.zeros(len(x)), 0.0
    for _ in range(draws):
        z = mu + torch.exp(0.5 * log_var) * torch.randn(mu.shape, generator=generator)
        decoded = model.decode(z).flatten(1)
        if isinstance(likelihood, Gaussian):
            nats += log_mass(x, decoded, sigma or likelihood.log_sigma.exp()).sum(-1) / draws
        else:
            nats += likelihood.log_prob(x, decoded) / draws
        error += float((likelihood.mean(decoded) - x).square().mean()) / draws
    unit = x.shape[1] * math.log(2)
    return {
        "bits": round(float((terms.kl - nats).mean()) / unit, 4),
        "kl": round(float(terms.kl.mean()) / unit, 4),
        "rmse": round(math.sqrt(error), 4),
    }


def interval(values: list[float]) -> dict[str, float]:
    """Return the mean and half of its 95% interval."""
    half = T[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return {"mean": round(statistics.mean(values), 4), "half": round(half, 4)}


def tune(fitted: Tensor, validation: Tensor, steps: int) -> dict[str, Any]:
    """Return for each arm the bits of validation pictures at each rate, and the best rate."""
    record: dict[str, Any] = {}
    for arm in ARMS:
        tried: dict[float, float] = {}
        grid = list(RATES)
        while grid:
            rate = grid.pop()
            tried[rate] = bits(train(arm, fitted, rate, TUNING, steps), validation)["bits"]
            best = min(tried, key=tried.__getitem__)
            if not grid and len(tried) == len(RATES) and best in (min(tried), max(tried)):
                grid = [best * 3 if best == max(tried) else best / 3]
        record[arm] = {"bits": {f"{r:g}": v for r, v in sorted(tried.items())}, "rate": best}
        print(arm, record[arm], flush=True)
    return record


def likelihoods(steps: int = STEPS, share: int = 1) -> dict[str, Any]:
    """Tune, then train three seeds of each; `share`: use of the pictures only each so many-th."""
    began, (grid, validation) = time.process_time(), patches()
    fitted, test = grid.reshape(-1, *SHAPE)[::share], data.load("patches", "test").images[::share]
    tuning, runs = tune(fitted, validation, steps), {}
    for arm in ARMS:
        rows = []
        for seed in SEEDS:
            model = train(arm, fitted, tuning[arm]["rate"], seed, steps)
            row, likelihood = bits(model, test), cast(Any, model.likelihood)
            if arm == LOGISTIC:
                row["scale"] = round(float(likelihood.log_scale.exp()), 4)
            else:
                row["sigma"] = round(float(likelihood.log_sigma.exp()), 4)
                grid_of = [0.05 * 1.12**k for k in range(18)]
                other = min(grid_of, key=lambda s: bits(model, validation, s, 1)["bits"])
                row |= {"other_sigma": round(other, 4), "other_bits": bits(model, test, other)["bits"]}
            rows.append(row)
            print(arm, seed, row, flush=True)
        runs[arm] = {key: [row[key] for row in rows] for key in rows[0]}
    generator = torch.Generator().manual_seed(0)
    odd = {
        "black": torch.zeros(1, *SHAPE),
        "mean picture": (255 * fitted.mean(0, keepdim=True)).round() / 255,
        "noise": torch.randint(256, (8, *SHAPE), generator=generator) / 255,
        "pixels shuffled": test.flatten(1)[:, torch.randperm(3072, generator=generator)].view(-1, *SHAPE),
    }
    differences = {
        arm: interval([a - b for a, b in zip(run["bits"], runs[LOGISTIC]["bits"], strict=True)])
        for arm, run in runs.items()
        if arm != LOGISTIC
    }
    return {
        "seeds": SEEDS,
        "steps": steps,
        "cpu_minutes": round((time.process_time() - began) / 60, 2),
        "command": "python -m experiments.measure_colour",
        "provenance": shared.provenance(),
        "summary": [
            {
                "question": f"How many bits a byte of a photograph does {arm} need above the discretised logistic?",
                "result": f"{{above_logistic[{arm}][mean]:+.3f}} bits per dimension",
                "error": f"{{above_logistic[{arm}][half]:.3f}} (95%, paired, over seeds)",
            }
            for arm in ARMS
            if arm != LOGISTIC
        ],
        "tuning": tuning,
        "runs": runs,
        "above_logistic": differences,
        "calibration": {name: bits(model, image)["bits"] for name, image in odd.items()},
    }


HEAD = {
    "question": "Which likelihood gives patches of photographs the fewest bits: Gaussian, sigma 1; Gaussian, sigma "
    "learned; discretised logistic?",
    "rivals": "a Gaussian trained on its mass on each level's interval; another sigma for the report alone; no "
    "model (measure_pictures): a uniform byte, the bytes' histogram, the difference from the left neighbour, PNG",
    "tuning": "for each likelihood a rate from 0.001, 0.003, 0.01, an edge that wins widened once, by the bits of "
    "validation pictures of another region; one seed",
    "evaluation": "bits per dimension of the bytes of all 182 test patches, an upper bound: minus the ELBO of "
    "probabilities, four draws of z",
    "command": "python -m experiments.measure_colour",
}


def main() -> None:
    for name in shared.chosen(["patches"], shared.read(RESULTS).get("parts", {}), __doc__):
        shared.store(RESULTS, likelihoods(), "parts", name, **HEAD)


if __name__ == "__main__":
    main()
