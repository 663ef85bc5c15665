"""Measure the log evidence of the models of chapter 10: ``python -m experiments.measure_evidence [PART ...]``.

Question: what do two models trained for half an hour score under each way of reporting a likelihood? Measures: L_S for
S up to 5,000 (all are lower bounds), z = mu, three kinds of pixels. Nothing is chosen here: rates and batch sizes of
the models were compared in short runs that are not stored (see train_pretrained; measure_iwae stores its own).

Writes book/results/evidence.json; parts that were not asked for stay there as they are.

- cost: minutes and peak memory of 10,000 images with 5,000 samples, on a quiet machine; it always runs first, so that
  the memory is its own. OMP_NUM_THREADS=2 for the two cores of the book.
- vae, iwae: bounds with up to 5,000 samples on all 10,000 test images, binarised once at random, and active units; with
  OMP_NUM_THREADS=1 about ten minutes each.
- pixels: the same VAE on thresholded and on grey pixels, about two minutes.
"""

import math
import resource
import time
from typing import Any

import torch
from torch import Tensor

from experiments import shared
from vaelib import data, evaluation, pretrained
from vaelib.distributions import kl_standard_normal
from vaelib.vae import VAE

RESULTS = shared.results("evidence")
SEED = 0
SAMPLES = (1, 5, 50, 100, 500, 5000)
FEWER = 1000  # images for what all of them would take too long for
SUMMARY = {
    name: [
        {
            "question": f"What are ELBO and L_5000, both lower bounds, of the {name.upper()} of half an hour?",
            "result": "{bounds[1][mean]:.2f} and {bounds[5000][mean]:.2f} nats",
            "error": "{bounds[1][standard_error]:.2f}, {bounds[5000][standard_error]:.2f} (se over images)",
        }
    ]
    for name in ("vae", "iwae")
}
NAMES = {"vae": "mnist-50d-vae", "iwae": "mnist-50d-iwae"}


def load_test(pixels: str) -> Tensor:
    """Return the test images, binarised "at random" (once, seed 0) or at a "threshold" of one half, or "grey"."""
    grey = data.load("mnist", "test").images
    if pixels == "at random":
        return data.binarize(grey, torch.Generator().manual_seed(SEED))
    return data.binarize(grey, threshold=0.5) if pixels == "threshold" else grey


def bounds(model: VAE, x: Tensor, samples: tuple[int, ...]) -> dict[int, Tensor]:
    """Return L_S of each image for each number S of samples."""
    return {s: evaluation.log_evidence(model, x, s) for s in samples}


@torch.no_grad()
def at_mean(model: VAE, x: Tensor) -> Tensor:
    """Return log p(x|z = mu) - KL for each image: the number that looks like a bound and is none."""
    mu, log_var = model.encode(x)
    return model.log_likelihood(model.check(x), model.decode(mu)) - kl_standard_normal(mu, log_var)


def summary(values: Tensor) -> dict[str, float]:
    """Return the mean over images and its standard error, in nats."""
    values = values.double()
    error = values.std().item() / math.sqrt(len(values))
    return {"mean": round(values.mean().item(), 3), "standard_error": round(error, 3)}


def shipped(name: str) -> VAE:
    """Return a model of chapter 10, of which none has conditions."""
    model = pretrained.load(NAMES[name])
    assert isinstance(model, VAE)
    return model


def measure_model(name: str) -> dict[str, Any]:
    model, x = shipped(name), load_test("at random")
    found = bounds(model, x, SAMPLES)
    mu = model.encode(x).mu.detach()
    return {
        "model": NAMES[name],
        "images": len(x),
        "pixels": "binarised at random, once",
        "bounds": {str(s): summary(values) for s, values in found.items()},
        "at_mean": summary(at_mean(model, x)),
        "active_units": int(evaluation.active_units(model, x).sum()),
        "unit_variances": [round(a, 4) for a in sorted(mu.var(0).tolist(), reverse=True)],
        "first_images": [round(value, 2) for value in found[SAMPLES[-1]][:FEWER].tolist()],
        "summary": SUMMARY[name],
    }


def measure_pixels() -> dict[str, Any]:
    model = shipped("vae")
    rows = {}
    for pixels in ("threshold", "grey"):
        x = load_test(pixels)
        found = bounds(model, x, (1, 100))
        # From 100 to 5,000 samples every image gains little, so that fewer images tell the gain well enough.
        gain = evaluation.log_evidence(model, x[:FEWER], 5000) - found[100][:FEWER]
        rows[pixels] = {
            "bounds": {str(s): summary(values) for s, values in found.items()},
            "gain_100_to_5000": {"images": FEWER, **summary(gain)},
            "at_mean": summary(at_mean(model, x)),
        }
    return {"model": NAMES["vae"], "images": len(x), "rows": rows}


def measure_cost(n_images: int = 10_000, n_samples: int = 5000, naive_images: int = 200) -> dict[str, Any]:
    model, x = shipped("vae"), load_test("at random")[:n_images]
    begin = time.perf_counter()
    evaluation.log_evidence(model, x, n_samples)
    minutes = (time.perf_counter() - begin) / 60
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begin = time.perf_counter()
    with torch.no_grad():
        for batch in x[:naive_images].split(20):
            model.iwae_bound(batch, n_samples)
    naive = (time.perf_counter() - begin) / 60 * n_images / naive_images
    return {
        "images": n_images,
        "samples": n_samples,
        "minutes": round(minutes, 2),
        "peak_memory_mb": round(peak),
        "naive_minutes": round(naive, 1),
        "naive": f"all samples of 20 images at once, timed on {naive_images} images and scaled up",
    }


# The cost comes first: the peak memory of a process never falls again.
PARTS = {
    "cost": measure_cost,
    "vae": lambda: measure_model("vae"),
    "iwae": lambda: measure_model("iwae"),
    "pixels": measure_pixels,
}


def with_provenance(part: str) -> dict[str, Any]:
    begin = time.process_time()
    found = PARTS[part]()
    return {
        **found,
        "cpu_minutes": round((time.process_time() - begin) / 60, 2),
        "command": f"python -m experiments.measure_evidence {part}",
        "seed": SEED,
        **shared.provenance(),
    }


def main() -> None:
    for name in shared.chosen(PARTS, shared.read(RESULTS).get("parts", {}), __doc__):
        found = with_provenance(name)
        evaluation = "MNIST test images; nats per image; z sampled from q(z|x) but where it says at_mean"
        shared.store(RESULTS, found, "parts", name, evaluation=evaluation)
        print(f"{name}: {found['cpu_minutes']} CPU minutes", flush=True)


if __name__ == "__main__":
    main()
