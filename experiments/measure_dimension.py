"""Measure what the number of latent dimensions does: ``python -m experiments.measure_dimension [PART ...]``.

Writes book/results/dimension.json. Written before the first run:

Question. A tutorial says that fewer than 4 latent dimensions are noticeably worse, that 1,000 are good, that 10,000
are worse again, and that stochastic gradient descent then "struggles to keep D[q(z|X) || P(z)] low" (Doersch 2016,
section 4.1; blog post 003 quotes it). Is it so for the model 784-400-K on MNIST? And if 10,000 are worse: is it the
KL, and do other rates, more training or a rising KL weight change it?

Measures. -ELBO of the 10,000 test images; L_100 of 500 of them drawn at random; the KL, and how it divides between
active units and the others; active units; distance from 1,000 samples to their nearest training images, and their
sharpness (the squared differences of neighbouring pixels, as a share of those of test images); CPU minutes. L_100
falls short of the log evidence by more where the KL is larger, so both it and the -ELBO are told, and where they
disagree, both. Calibration of distance and sharpness: test images, reconstructions by each model, the mean image.

Rivals. Every K has its own peak rate, chosen by the -ELBO of 5,000 validation images after one epoch, from RATES with
seed 100; where the first or the last of them is the best, half or twice that rate is tried as well. Then three epochs
of 60,000 images for all, chapter 9's recipe. Three seeds up to K = 1,000, one at 10,000, where a run takes minutes.
At 10,000 the three rates are parts of their own; their KLs say what another rate changes.
Interventions at 10,000, seed 0: "longer" (six epochs in the place of three) and "annealed" (a KL weight that rises
from 0 to 1 in the first of three epochs). "20 longer" is the rival of "10000 longer".

Yes, for "worse": the difference of -ELBO (and of L_100) from K = 20, paired by seed, is more than 4.3 standard errors
above zero (97.5% point of t with 2 degrees of freedom). For K = 10,000, with one seed: more than 4.3 times the
largest standard deviation over seeds of any other K; it is said with the number. "It is the KL": the KL of K = 10,000
lies above that of K = 20 by as much as the -ELBO does, or by more. "An intervention changes it": the -ELBO at 10,000
moves by more than 4.3 of those standard deviations.

Added when K = 1,000 was known, where the lowest of the rates was the best: "1000 slower", which tries 0.0005625 and
0.00028125 as well, and trains with the best of all. Is 1,000 as good as 20 at a lower rate? No, if its -ELBO is still
worse by more than 4.3 standard errors.

Added later, when all of the above were known, before they ran: "1000 annealed" and "20 annealed", seed 0 alone. A
weight that rises gave 4.5 nats at 10,000; is that a gain of annealing at every K, or of annealing where there are very
many dimensions? At every K, if the -ELBO with seed 0 is lower with it at 20, too, and by as much; of very many, if at
20 it moves by less than 4.3 times the standard deviation over seeds at 20, and at 1,000 is lower by more than 4.3 times
that at 1,000.

With OMP_NUM_THREADS=1 each part takes one to seven minutes, and everything about 45; "10000 longer" stops after three
of its six epochs and goes on when it is called again.
"""

import itertools
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments import shared
from vaelib import data
from vaelib.contract import ElboTerms
from vaelib.evaluation import active_units, log_evidence, mean_elbo
from vaelib.training import fit
from vaelib.vae import VAE

RESULTS = shared.results("dimension")
CHECKPOINT = shared.ROOT / "runs/dimension.safetensors"
DIMENSIONS = (1, 2, 3, 4, 8, 20, 100, 1000)
MOST = 10_000
EPOCHS = 3
TUNING_EPOCHS = 1
RATES = (2.25e-3, 4.5e-3, 9e-3)
SEEDS = (0, 1, 2)
TUNING_SEED = 100
SAMPLES = 1000
# What differs from the plain run of that K.
BESIDES: dict[str, dict[str, Any]] = {
    "10000 annealed": {"annealed": True},
    "10000 longer": {"epochs": 2 * EPOCHS, "halves": True},
    "20 longer": {"epochs": 2 * EPOCHS},
    "1000 slower": {"rates": (5.625e-4, 2.8125e-4)},
    "1000 annealed": {"annealed": True, "seeds": SEEDS[:1]},
    "20 annealed": {"annealed": True, "seeds": SEEDS[:1]},
}
PARTS = (
    *map(str, DIMENSIONS),
    *(f"{MOST} rate {rate:g}" for rate in RATES),
    str(MOST),
    *BESIDES,
)
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}


class Annealed:
    """An objective whose KL weight rises from 0 to 1 in a number of steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, model: Any, x: Tensor, y: Any, step: int, generator: torch.Generator) -> ElboTerms:
        """Return the weighted terms of a batch."""
        found: ElboTerms = model.elbo(x, beta=min(1.0, step / self.steps), generator=generator, check=False)
        return found


class HalfDone(Exception):
    """Raised where the first half of a run is stored."""


class InHalves:
    """The ELBO; at one step, which begins an epoch, it stops the run once: `fit` has stored what came before."""

    def __init__(self, step: int, done: Path) -> None:
        self.step, self.done = step, done

    def __call__(self, model: Any, x: Tensor, y: Any, step: int, generator: torch.Generator) -> ElboTerms:
        """Return the terms of a batch."""
        if step == self.step and not self.done.exists():
            raise HalfDone
        found: ElboTerms = model.elbo(x, generator=generator, check=False)
        return found


def train(images: Tensor, k: int, rate: float, seed: int, epochs: int = EPOCHS, anneal: bool = False) -> VAE:
    """Train 784-400-K with chapter 9's recipe."""
    model = VAE(images[0].numel(), (400,), k, seed=seed)
    objective = Annealed(-(-len(images) // 128)) if anneal else None
    fit(model, images, epochs=epochs, learning_rate=rate, seed=seed, objective=objective, **QUIET)
    return model


def train_in_halves(
    images: Tensor, k: int, rate: float, seed: int, epochs: int, path: Path
) -> tuple[VAE, float] | None:
    """Train the first half of the epochs and return None or, called again, the second; with the CPU minutes of both."""
    began, model, half = time.process_time(), VAE(images[0].numel(), (400,), k, seed=seed), path.with_suffix(".half")
    path.parent.mkdir(parents=True, exist_ok=True)
    objective = InHalves(epochs // 2 * (-(-len(images) // 128)), half)
    settings: dict[str, Any] = {"epochs": epochs, "learning_rate": rate, "seed": seed, **QUIET}
    try:
        fit(model, images, objective=objective, checkpoint=path, **settings)
    except HalfDone:
        half.write_text(str(time.process_time() - began))
        return None
    seconds = time.process_time() - began + float(half.read_text())
    path.unlink()
    half.unlink()
    return model, seconds / 60


def tried(images: data.ImageData, k: int, rate: float, epochs: int, held_out: int = 5000) -> dict[str, float]:
    """Return the -ELBO and the KL of the validation images for one rate."""
    fitting, validation = data.train_validation_split(images, min(held_out, len(images) // 5), seed=TUNING_SEED)
    model = train(fitting.images, k, rate, TUNING_SEED, epochs)
    found = {
        "-ELBO": round(-mean_elbo(model, validation.images), 3),
        "KL": round(by_unit(model, validation).sum().item(), 3),
    }
    print(f"{k}: rate {rate:.3g}, validation {found}", flush=True)
    return found


def tuned(images: data.ImageData, k: int) -> dict[str, dict[str, float]]:
    """Return -ELBO and KL of the validation images for each rate that was tried."""
    found = {rate: tried(images, k, rate, TUNING_EPOCHS) for rate in RATES}
    best = min(found, key=lambda rate: found[rate]["-ELBO"])
    if best in (RATES[0], RATES[-1]):
        rate = best / 2 if best == RATES[0] else 2 * best
        found[rate] = tried(images, k, rate, TUNING_EPOCHS)
    return {f"{rate:g}": value for rate, value in sorted(found.items())}


def chosen(validation: dict[str, dict[str, float]]) -> float:
    return float(min(validation, key=lambda rate: validation[rate]["-ELBO"]))


@torch.no_grad()
def by_unit(model: VAE, images: data.ImageData) -> Tensor:
    """Return the mean KL of each latent dimension, in nats: ``(K,)``."""
    total = torch.zeros(model.latent_dim)
    for x in images.images.split(1000):
        mu, log_var = model.encode(x)
        total += 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(0)
    return total / len(images)


def roughness(images: Tensor) -> float:
    """Return the mean squared difference of neighbouring pixels."""
    side = int(images[0].numel() ** 0.5)
    x = images.reshape(-1, side, side)
    return (x.diff(dim=1).square().mean() + x.diff(dim=2).square().mean()).item()


def looks(images: Tensor, training: Tensor, test: Tensor) -> dict[str, float]:
    """Return how far images are from training images, and how sharp, as a share of test images."""
    x, known = images.flatten(1), training.flatten(1)
    distance = torch.stack([torch.cdist(x, part).amin(1) for part in known.split(10_000)]).amin(0).mean().item()
    return {"distance": round(distance, 3), "sharpness": round(roughness(images) / roughness(test), 3)}


def measured(model: VAE, training: data.ImageData, test: data.ImageData) -> dict[str, Any]:
    """Return the measures of one trained model."""
    few = test.images[torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:500]]
    kl, active = by_unit(model, test), active_units(model, test.images)
    samples = model.sample(SAMPLES, generator=torch.Generator().manual_seed(0))
    largest = [round(value, 4) for value in kl.sort(descending=True).values[:30].tolist()]
    return {
        "-ELBO": round(-mean_elbo(model, test.images), 3),
        "L_100": round(log_evidence(model, few, 100).mean().item(), 3),
        "KL": round(kl.sum().item(), 3),
        "KL of active units": round(kl[active].sum().item(), 3),
        "KL of the others": round(kl[~active].sum().item(), 4),
        "largest KL": largest,
        "active units": int(active.sum()),
        "samples": looks(samples, training.images, test.images),
        "reconstructions": looks(model.reconstruct(few), training.images, test.images),
    }


def calibration(training: data.ImageData, test: data.ImageData) -> dict[str, Any]:
    """Return what distance and sharpness say of images that are known."""
    few = test.images[torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:500]]
    mean = training.images.mean(0, keepdim=True)
    return {
        name: looks(x, training.images, test.images) for name, x in {"test images": few, "mean image": mean}.items()
    }


def measure(name: str, images: data.ImageData, test: data.ImageData) -> dict[str, Any] | None:
    """Tune one K, and train and measure it with each seed; None where a run stopped half-way."""
    began = time.process_time()
    k, settings = int(name.partition(" ")[0]), BESIDES.get(name, {})
    parts = shared.read(RESULTS).get("parts", {})
    said: dict[str, Any] = {"latent_dim": k}
    if " rate " in name:
        rate = float(name.rpartition(" ")[2])
        said |= {"epochs": TUNING_EPOCHS, "validation": {f"{rate:g}": tried(images, k, rate, TUNING_EPOCHS)}}
    else:
        if settings:
            more = {f"{rate:g}": tried(images, k, rate, TUNING_EPOCHS) for rate in settings.get("rates", ())}
            validation = {**more, **parts[str(k)]["validation"]}
        elif k == MOST:
            each = [parts[f"{MOST} rate {rate:g}"]["validation"] for rate in RATES]
            validation = dict(itertools.chain.from_iterable(found.items() for found in each))
        else:
            validation = tuned(images, k)
        rate = chosen(validation)
        epochs = settings.get("epochs", EPOCHS)
        seeds = settings.get("seeds", SEEDS if k < MOST else SEEDS[:1])
        runs = []
        for seed in seeds:
            start = time.process_time()
            if settings.get("halves"):
                whole = train_in_halves(images.images, k, rate, seed, epochs, CHECKPOINT)
                if whole is None:
                    print(f"{name}: half of it is done; call it again", flush=True)
                    return None
                model, minutes = whole
                began -= 60 * minutes - (time.process_time() - start)
            else:
                model = train(images.images, k, rate, seed, epochs, settings.get("annealed", False))
                minutes = (time.process_time() - start) / 60
            found = measured(model, images, test) | {"training_cpu_minutes": round(minutes, 2)}
            runs.append({"seed": seed, **found})
            print(name, runs[-1], flush=True)
        said |= {"epochs": epochs, "validation": validation, "learning_rate": rate, "runs": runs, "seeds": list(seeds)}
        if k == DIMENSIONS[0]:
            said["calibration"] = calibration(images, test)
    return {
        **said,
        "cpu_minutes": round((time.process_time() - began) / 60, 2),
        "command": f'python -m experiments.measure_dimension "{name}"',
        "provenance": shared.provenance(),
    }


def differences(parts: dict[str, Any], than: str = "20") -> dict[str, Any]:
    """Return each K's measures minus those of another K, paired by seed: the mean and, of three seeds, its error."""
    found: dict[str, Any] = {}
    for name, part in parts.items():
        if than not in parts or name == than or "runs" not in part:
            continue
        for measure in ("-ELBO", "L_100", "KL"):
            pairs = [a[measure] - b[measure] for a, b in zip(part["runs"], parts[than]["runs"], strict=False)]
            se = round(statistics.stdev(pairs) / len(pairs) ** 0.5, 3) if len(pairs) > 1 else None
            found.setdefault(name, {})[measure] = {"mean": round(statistics.mean(pairs), 3), "se": se}
    return found


def spread(parts: dict[str, Any]) -> dict[str, float]:
    """Return the largest standard deviation over seeds of any K with three seeds."""
    several = [part["runs"] for part in parts.values() if len(part.get("runs", [])) > 1]
    return {
        measure: round(max(statistics.stdev(run[measure] for run in runs) for runs in several), 3)
        for measure in ("-ELBO", "L_100", "KL")
        if several
    }


HEAD = {
    "question": "Are fewer than 4 latent dimensions worse, 1,000 good and 10,000 worse again for 784-400-K on MNIST, "
    "and is it the KL?",
    "rivals": "each K at its own rate; at 10,000 other rates, six epochs, a KL weight that rises",
    "tuning": "each K its own peak rate, by the -ELBO of 5,000 validation images after one epoch with seed 100: "
    "0.00225, 0.0045, 0.009, and up to K = 1,000 half or twice the rate at the end",
    "evaluation": "grey MNIST test images, z sampled once for the -ELBO; L_100 of 500 of them drawn at random",
    "yes": "more than 4.3 standard errors from K = 20, paired over three seeds; at 10,000 more than 4.3 of the largest "
    "standard deviation over seeds",
}
SUMMARY = [
    {
        "question": "Do few or very many latent dimensions make a VAE of MNIST worse?",
        "result": "-ELBO minus that of 20: with 2 {differences[2][-ELBO][mean]:+.1f}, 4 "
        "{differences[4][-ELBO][mean]:+.1f}, 1,000 "
        "{differences[1000][-ELBO][mean]:+.1f}, 10,000 {differences[10000][-ELBO][mean]:+.1f} nats",
        "error": "{differences[2][-ELBO][se]:.1f}, {differences[4][-ELBO][se]:.1f}, {differences[1000][-ELBO][se]:.1f} "
        "(paired, over seeds); of 10,000 one seed: largest standard deviation over seeds {spread[-ELBO]:.1f}",
        "seeds": "3, at 10,000 one",
    },
    {
        "question": "What happens to the KL at 10,000 latent dimensions?",
        "result": "{parts[10000][runs][0][KL]:.1f} nats, of which {parts[10000][runs][0][KL of the others]:.1f} in "
        "units that are not active; with 20 dimensions {parts[20][runs][0][KL]:.1f}",
        "error": "largest standard deviation over seeds {spread[KL]:.1f}",
        "seeds": 1,
    },
]


def main() -> None:
    images = test = None
    for name in shared.chosen(PARTS, shared.read(RESULTS).get("parts", {}), __doc__):
        images = images if images is not None else data.load("mnist")
        test = test if test is not None else data.load("mnist", "test")
        part = measure(name, images, test)
        if part is None:
            continue
        shared.store(RESULTS, part, "parts", name, **HEAD)
        record = shared.read(RESULTS)
        parts = record["parts"]
        minutes = round(sum(part["cpu_minutes"] for part in parts.values()), 1)
        record |= {"cpu_minutes": minutes, "differences": differences(parts), "spread": spread(parts)}
        if parts.keys() >= {*map(str, DIMENSIONS), str(MOST)}:  # those of the summary
            record |= {"summary": SUMMARY, "command": "python -m experiments.measure_dimension"}
        shared.write(RESULTS, record)


if __name__ == "__main__":
    main()
