"""Enclose the log evidence from both sides: ``python -m experiments.measure_bounds [PART ...]``.

Written before the first run:

Question: how far below the log evidence is L_5000, the number that papers report, for the two models of chapter 10?
Measure: annealed importance sampling (AIS) with 4 chains gives a lower bound; run backward from the code from which an
    image was simulated, it gives an upper bound (bidirectional Monte Carlo: Grosse et al., 2015; Wu et al., 2017). Both
    on 100 images simulated by the model; the lower bound alone on 100 test images, drawn at random and binarised once.
Rivals: L_1 (the ELBO), L_50, L_5000 on the same images.
Calibration: first on a linear-Gaussian model, whose log evidence is known: there the bounds must enclose it.
Settings: step size 0.3 standard deviations of q, 5 leapfrog steps, 10, 100 and 500 temperatures; looked at beforehand
    on 32 simulated images (step sizes 0.1 to 0.4). Seed 0 for the chains, 1 for the images: with one seed for both the
    first numbers of the chains are the codes, and the exact model shows a "lower" bound 1.2 nats above the truth.
Yes: on simulated images the two bounds are less than 0.2 nats apart, and L_5000 lies below the lower one by more than
    three standard errors. What holds for the test images follows only if AIS is as good on them: their spread between
    chains is stored beside that of the simulated ones, and is compared.

Writes book/results/bounds.json. About 8 minutes on one core with OMP_NUM_THREADS=1, each part at most three.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments import shared
from vaelib import data, evaluation, pretrained
from vaelib.annealing import annealed_log_weights
from vaelib.exact import LinearGaussian
from vaelib.vae import VAE

RESULTS = shared.results("bounds")
SEED = 0
IMAGES = 100
TEMPERATURES = (10, 100, 500)
SAMPLES = (1, 50, 5000)
SETTINGS: dict[str, Any] = {"n_chains": 4, "step_size": 0.3, "n_leapfrog": 5}
NAMES = {"vae": "mnist-50d-vae", "iwae": "mnist-50d-iwae"}


def linear_gaussian() -> tuple[VAE, LinearGaussian]:
    """Return the exact model of chapter 10 as a VAE whose encoder is spoilt: means 0.7 times, variances 1.5 times."""
    data_dim, latent_dim, sigma = 20, 5, 1.0
    fixed = torch.Generator().manual_seed(0)
    weight, bias = 0.5 * torch.randn(data_dim, latent_dim, generator=fixed), torch.randn(data_dim, generator=fixed)
    exact = LinearGaussian(weight, bias, sigma)
    covariance = exact.posterior(bias[None]).covariance
    to_mean = 0.7 * covariance @ weight.T / sigma**2
    vae = VAE(data_dim, (), latent_dim, likelihood="gaussian", sigma=sigma)
    weights = {"decoder.0.weight": weight, "decoder.0.bias": bias}
    weights["encoder.0.weight"] = torch.cat([to_mean, torch.zeros_like(to_mean)])
    weights["encoder.0.bias"] = torch.cat([-to_mean @ bias, (1.5 * covariance.diagonal()).log()])
    vae.load_state_dict(weights, strict=False)
    return vae, exact


@torch.no_grad()
def simulated(model: VAE, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return codes of the prior and the images drawn from them: each code is an exact draw from its posterior."""
    z = torch.randn(n, model.latent_dim, generator=generator)
    return z, model.likelihood.sample(model.decode(z), generator)


def summary(values: Tensor) -> dict[str, float]:
    """Return the mean over images and its standard error."""
    error = values.double().std().item() / math.sqrt(len(values))
    return {"mean": round(values.double().mean().item(), 3), "se": round(error, 3)}


def lower(log_w: Tensor) -> Tensor:
    """Return log of the mean weight of each image's chains."""
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


def upper(log_w: Tensor) -> Tensor:
    """Return minus log of the mean inverse weight of each image's chains."""
    return math.log(len(log_w)) - torch.logsumexp(-log_w, 0)


def enclose(model: VAE, x: Tensor, z: Tensor | None) -> dict[str, Any]:
    """Return all bounds of images, and where their codes z are known, those from above and the distances."""
    begin = time.process_time()
    found = {f"L_{s}": evaluation.log_evidence(model, x, s) for s in SAMPLES}
    minutes = {"L_5000": round((time.process_time() - begin) / 60, 2)}
    annealed: dict[str, Any] = {}
    best: dict[str, Tensor] = {}
    for n_temperatures in TEMPERATURES:
        begin = time.process_time()
        noise = torch.Generator().manual_seed(SEED)
        forward = annealed_log_weights(model, x, n_temperatures, generator=noise, **SETTINGS)
        minutes[f"T = {n_temperatures}"] = round((time.process_time() - begin) / 60, 2)
        best["lower"] = lower(forward.log_w)
        one = {
            "lower": summary(best["lower"]),
            "spread_of_chains": round(forward.log_w.std(0).mean().item(), 3),
            "acceptance": round(forward.acceptance.mean().item(), 3),
        }
        if z is not None:
            backward = annealed_log_weights(model, x, n_temperatures, codes=z, generator=noise, **SETTINGS)
            best["upper"] = upper(backward.log_w)
            one |= {"upper": summary(best["upper"]), "apart": summary(best["upper"] - best["lower"])}
        annealed[str(n_temperatures)] = one
    return {
        "images": len(x),
        "bounds": {name: summary(values) for name, values in found.items()},
        "annealed": annealed,
        # How far each bound lies below the best one of AIS.
        "below": {name: summary(best["lower"] - values) for name, values in found.items()},
        "each": {name: [round(value, 2) for value in values.tolist()] for name, values in (found | best).items()},
        "minutes": minutes,
    }


def measure_exact(n: int = 1000) -> dict[str, Any]:
    """Return the bounds of simulated data, as differences to the exact log evidence."""
    model, exact = linear_gaussian()
    z, x = simulated(model, n, torch.Generator().manual_seed(SEED + 1))
    log_p = exact.log_evidence(x)
    rows = {}
    for n_temperatures in (1, *TEMPERATURES[:2]):
        noise = torch.Generator().manual_seed(SEED)
        low = lower(annealed_log_weights(model, x, n_temperatures, generator=noise, **SETTINGS).log_w)
        high = upper(annealed_log_weights(model, x, n_temperatures, codes=z, generator=noise, **SETTINGS).log_w)
        rows[str(n_temperatures)] = {"lower": summary(low - log_p), "upper": summary(high - log_p)}
    return {
        "images": n,
        "minus_exact": rows,
        "summary": [
            {
                "question": "Do the two bounds enclose a log evidence that is known exactly (100 temperatures)?",
                "result": "{minus_exact[100][lower][mean]:+.4f} and {minus_exact[100][upper][mean]:+.4f} nats from it",
                "error": "{minus_exact[100][lower][se]:.4f}, {minus_exact[100][upper][se]:.4f} (se over data points)",
            }
        ],
    }


def shipped(name: str) -> VAE:
    """Return a model of chapter 10."""
    model = pretrained.load(NAMES[name])
    assert isinstance(model, VAE)
    return model


def measure_simulated(name: str) -> dict[str, Any]:
    model = shipped(name)
    z, x = simulated(model, IMAGES, torch.Generator().manual_seed(SEED + 1))
    last = TEMPERATURES[-1]
    result = f"by {{below[L_5000][mean]:.2f}} nats; bounds {{annealed[{last}][apart][mean]:.2f}} apart"
    return enclose(model, x, z) | {
        "summary": [
            {
                "question": f"On images simulated by the {name.upper()}, how far is L_5000 below the log evidence?",
                "result": result,
                "error": f"{{below[L_5000][se]:.2f}}, {{annealed[{last}][apart][se]:.2f}} (se over images)",
            }
        ],
    }


def measure_test(name: str) -> dict[str, Any]:
    test = data.load("mnist", "test").images
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(SEED + 1))[:IMAGES]
    x = data.binarize(test[chosen], torch.Generator().manual_seed(SEED + 2))
    return enclose(shipped(name), x, None) | {
        "summary": [
            {
                "question": f"On test images, how far is the {name.upper()}'s L_5000 below the bound of annealing?",
                "result": "by {below[L_5000][mean]:.2f} nats, ELBO {below[L_1][mean]:.2f}",
                "error": "{below[L_5000][se]:.2f}, {below[L_1][se]:.2f} (se over images)",
            }
        ],
    }


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "exact": measure_exact,
    **{f"{name} simulated": partial(measure_simulated, name) for name in NAMES},
    **{f"{name} test": partial(measure_test, name) for name in NAMES},
}


def main() -> None:
    for name in shared.chosen(PARTS, shared.read(RESULTS).get("parts", {}), __doc__):
        begin = time.process_time()
        found = PARTS[name]()
        found |= {
            "settings": SETTINGS,
            "cpu_minutes": round((time.process_time() - begin) / 60, 2),
            "command": f'python -m experiments.measure_bounds "{name}"',
            "seed": SEED,
            **shared.provenance(),
        }
        shared.store(RESULTS, found, "parts", name, evaluation="nats per image; a mean over images with its error")
        print(f"{name}: {found['cpu_minutes']} CPU minutes", flush=True)


if __name__ == "__main__":
    main()
