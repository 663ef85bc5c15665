"""Train a VAE and an IWAE for equal times, and for equal epochs: ``python -m experiments.measure_iwae [PART ...]``.

Written before any model was compared. The budgets, the batch size of (b) and a fourth rate of the IWAE came after the
first tuning runs, for lack of time and before any test image was looked at:

Question: which model has the higher log evidence on test images, the one trained on the ELBO (VAE) or the one trained
    on the bound L_50 (IWAE), (a) after the same processor time, (b) after the same number of epochs?
Measures: L_5000 of 200 test images of MNIST, drawn at random and binarised at random once: the same for all. It is a
    lower bound on the log evidence that may miss more of one model than of the other: so annealed importance sampling
    (100 temperatures, 4 chains), a tighter lower bound, stands beside it. L_50 and L_1, too: bounds with few samples
    also measure how well the encoder proposes.
Models: 784-200-200-50, tanh, the network of Burda et al. (2016). Each run has a complete schedule of its own (the rate
    up for a tenth of the steps, then down to 0). Two budgets: 1 and 3 epochs of the IWAE, and 18 times as many of the
    VAE, since on a quiet core the half-hour runs of train_pretrained took 70.7 and 3.9 seconds an epoch. (b) gives the
    VAE 1 and 3 epochs. A third: the two models of train_pretrained, one seed each, and VAEs of 27 epochs.
Tuning: the batch sizes of the half-hour runs, 100 and 20; in (b) 20 for both, so that they take the same steps as
    well. Three rates for each of the three ways of training, at the smaller budget, by L_500 on 1,000 of 5,000
    validation images that no model is trained on; if the best rate is the first or the last of the three, the next one
    (a factor of two) is tried as well. The larger budget has these rates; 27 epochs have that of the VAE's 18, and all
    60,000 images, as the half-hour runs had.
Seeds: 0, 1, 2 for weights, noise and order; tuning has seed 9. Differences are paired by seed, on the same images.
Yes: the mean difference is more than three times its standard error, over seeds and over images alike, and it has one
    sign at all seeds and by both measures. Otherwise: not decided, with the interval.

Writes book/results/iwae.json. About 60 minutes on one core with OMP_NUM_THREADS=1, each part at most seven.
"""

import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from experiments import shared
from experiments.reproduce_iwae import bound
from vaelib import data, evaluation, pretrained
from vaelib.annealing import annealed_log_weights
from vaelib.training import fit
from vaelib.vae import VAE

RESULTS = shared.results("iwae")
SEEDS = (0, 1, 2)
TUNING_SEED = 9
NETWORK: dict[str, Any] = {"hidden_dims": (200, 200), "latent_dim": 50, "activation": "tanh"}
VALIDATION, IMAGES = 5000, 200
SAMPLES = (1, 50, 5000)
ANNEALED: dict[str, Any] = {"n_temperatures": 100, "n_chains": 4, "step_size": 0.3}
# "epochs" has the VAE trained for as many epochs as the IWAE.
WAYS: dict[str, dict[str, Any]] = {
    "iwae": {"k": 50, "batch_size": 20, "epochs": {"small": 1, "large": 3}, "rates": [1e-3, 2e-3, 4e-3, 8e-3]},
    "vae": {
        "k": 1,
        "batch_size": 100,
        "epochs": {"small": 18, "large": 54, "27": 27},
        "rates": [1.5e-3, 3e-3, 6e-3, 12e-3],
    },
    "epochs": {"k": 1, "batch_size": 20, "epochs": {"small": 1, "large": 3}, "rates": [1e-3, 2e-3, 4e-3, 8e-3]},
    # Batches of 100 were tried first for one epoch: too few steps.
    "epochs in batches of 100": {"k": 1, "batch_size": 100, "epochs": {"small": 1}, "rates": [3e-3, 6e-3, 12e-3]},
}
SHIPPED = {"iwae": "mnist-50d-iwae", "vae": "mnist-50d-vae"}


def images() -> tuple[data.ImageData, torch.Tensor, torch.Tensor]:
    """Return the training images, and the validation and the test images of the measures, binarised once."""
    train, validation = data.train_validation_split(data.load("mnist"), VALIDATION, seed=TUNING_SEED)
    test = data.load("mnist", "test")
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:IMAGES]
    held_out = (validation.images[:1000], test.images[chosen])
    once = [data.binarize(part, torch.Generator().manual_seed(1)) for part in held_out]
    return train, once[0], once[1]


def train(way: str, budget: str, rate: float, seed: int, fitting: data.ImageData) -> tuple[VAE, dict[str, Any]]:
    """Train one model through its own schedule, and return it with how that was done."""
    settings = {"batch_size": WAYS[way]["batch_size"], "epochs": WAYS[way]["epochs"][budget], "learning_rate": rate}
    model = VAE(math.prod(fitting.images.shape[1:]), **NETWORK, seed=seed)
    begin = time.process_time()
    objective = bound(WAYS[way]["k"])
    quiet: dict[str, Any] = {"device": "cpu", "progress": False}
    fit(model, fitting, objective=objective, transform=data.binarize, seed=seed, **settings, **quiet)
    minutes = (time.process_time() - begin) / 60
    return model, {"k": WAYS[way]["k"], **settings, "seed": seed, "cpu_minutes": round(minutes, 2)}


def tune(way: str, rate: float) -> dict[str, Any]:
    """Return the validation measure of one rate at the smaller budget."""
    fitting, validation, _ = images()
    model, how = train(way, "small", rate, TUNING_SEED, fitting)
    return {**how, "validation_l500": round(evaluation.log_evidence(model, validation, 500).mean().item(), 3)}


def tuning(way: str, parts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the stored parts in which a way was tuned."""
    return [part for name, part in parts.items() if name.rsplit(" ", 1)[0] == f"tune {way}"]


def best_rate(way: str, parts: dict[str, Any]) -> float:
    """Return the rate with the best validation measure of all that are to be tried."""
    tried = tuning(way, parts)
    if len(tried) < len(WAYS[way]["rates"]):
        raise SystemExit(f"tune {way} first: {len(tried)} rates are stored")
    return max(tried, key=lambda part: part["validation_l500"])["learning_rate"]


def bounds(model: VAE, test: torch.Tensor) -> dict[str, Any]:
    """Return the bounds of the test images, and how many units the model uses."""
    begin = time.process_time()
    found = {f"L_{s}": evaluation.log_evidence(model, test, s) for s in SAMPLES}
    annealed = annealed_log_weights(model, test, **ANNEALED)
    found["annealed"] = torch.logsumexp(annealed.log_w, 0) - math.log(len(annealed.log_w))
    return {
        "bounds": {name: round(values.double().mean().item(), 3) for name, values in found.items()},
        "active_units": int(evaluation.active_units(model, test).sum()),
        "acceptance": round(annealed.acceptance.mean().item(), 3),
        "images": {name: [round(each, 2) for each in found[name].tolist()] for name in ("L_5000", "annealed")},
        "evaluation_cpu_minutes": round((time.process_time() - begin) / 60, 2),
    }


def measure(way: str, budget: str, seed: int) -> dict[str, Any]:
    """Train with the tuned rate, and return the bounds of the test images."""
    fitting, _, test = images()
    if budget == "27":
        fitting = data.load("mnist")
    model, how = train(way, budget, best_rate(way, shared.read(RESULTS)["parts"]), seed, fitting)
    return {**how, **bounds(model, test)}


def shipped(way: str) -> dict[str, Any]:
    """Return the bounds of a model of half an hour."""
    model, record = pretrained.load(SHIPPED[way]), pretrained.record(SHIPPED[way])
    assert isinstance(model, VAE)
    how = {key: record["settings"][key] for key in ("k", "batch_size", "epochs", "learning_rate", "seed")}
    return {**how, "cpu_minutes": record["curve"]["points"][-1]["minutes"], **bounds(model, images()[2])}


def compare(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return VAE minus IWAE for each bound, pair by pair: the mean, and its errors over seeds and over images."""
    found: dict[str, Any] = {}
    for name in ours[0]["bounds"]:
        by_seed = [round(vae["bounds"][name] - iwae["bounds"][name], 3) for vae, iwae in zip(ours, theirs, strict=True)]
        found[name] = {"by_seed": by_seed, "mean": round(statistics.mean(by_seed), 3)}
        if len(by_seed) > 1:
            found[name]["se"] = round(statistics.stdev(by_seed) / math.sqrt(len(by_seed)), 3)
        if name in ours[0]["images"]:
            vae, iwae = (torch.tensor([part["images"][name] for part in parts]).mean(0) for parts in (ours, theirs))
            found[name]["se_images"] = round((vae - iwae).std().item() / math.sqrt(len(vae)), 3)
    return found


def comparisons() -> dict[str, Any]:
    """Return the differences of all pairs that are stored: VAE minus IWAE."""
    parts = shared.read(RESULTS)["parts"]
    found: dict[str, Any] = {}
    summary = []
    for name, (ours, theirs, question) in PAIRS.items():
        if not all(part in parts for part in (*ours, *theirs)):
            continue
        found[name] = compare([parts[part] for part in ours], [parts[part] for part in theirs])
        kinds = {"se": "over seeds", "se_images": "over images"}
        kinds = {key: kind for key, kind in kinds.items() if key in found[name]["annealed"]}
        summary.append(
            {
                "question": question,
                "result": f"{{{name}[annealed][mean]:+.2f}} nats by annealing, {{{name}[L_5000][mean]:+.2f}} by L_5000",
                "error": ", ".join(f"{{{name}[annealed][{key}]:.2f}} (se {kind})" for key, kind in kinds.items()),
                "seeds": len(ours),
            }
        )
    for way in WAYS:
        tried = [(part["validation_l500"], part["learning_rate"]) for part in tuning(way, parts)]
        if tried:
            found[f"tuned {way}"] = {
                "rates": len(tried),
                **dict(zip(("validation_l500", "rate"), max(tried), strict=True)),
            }
    if "tuned iwae" in found and not summary:
        summary.append(
            {
                "question": "Tuning, the comparison is still to be run: which rate is best for one epoch of the IWAE?",
                "result": "{tuned iwae[rate]}: L_500 {tuned iwae[validation_l500]:.2f} nats on validation images",
                "error": "none: one seed, {tuned iwae[rates]} rates",
                "seeds": 1,
            }
        )
    done = [part["cpu_minutes"] for name, part in parts.items() if name.startswith(("tune", "small", "large", "27"))]
    return {**found, "seeds": list(SEEDS), "cpu_minutes": round(sum(done), 1), "summary": summary}


def pairs() -> dict[str, tuple[list[str], list[str], str]]:
    """Return what is compared: the parts of the VAE, those of the IWAE, and the question."""
    found = {}
    for budget, epochs in (("small", 1), ("large", 3)):
        for what, way in (("time", "vae"), ("epochs", "epochs")):
            ours, theirs = ([f"{budget} {each} {seed}" for seed in SEEDS] for each in (way, "iwae"))
            many = "1 epoch" if epochs == 1 else f"{epochs} epochs"
            question = f"VAE minus IWAE after the same {what} ({many} of the IWAE): by how much?"
            found[f"{budget} {what}"] = (ours, theirs, question)
    question = "VAE minus IWAE after half an hour each (540 and 27 epochs): by how much?"
    found["half hour"] = (["shipped vae"], ["shipped iwae"], question)
    question = "VAE minus IWAE after 27 epochs each, with a schedule of its own: by how much?"
    found["27 epochs"] = ([f"27 vae {seed}" for seed in SEEDS], ["shipped iwae"] * len(SEEDS), question)
    return found


PAIRS = pairs()
PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    **{
        f"tune {way} {rate:g}": partial(tune, way, rate) for way, settings in WAYS.items() for rate in settings["rates"]
    },
    **{
        f"{budget} {way} {seed}": partial(measure, way, budget, seed)
        for budget in ("small", "large", "27")
        for seed in SEEDS
        for way in ("iwae", "vae", "epochs")
        if budget in WAYS[way]["epochs"]
    },
    **{f"shipped {way}": partial(shipped, way) for way in SHIPPED},
    "comparisons": comparisons,
}


def main() -> None:
    for name in shared.chosen(PARTS, shared.read(RESULTS).get("parts", {}), __doc__):
        found = PARTS[name]()
        found |= {"command": f'python -m experiments.measure_iwae "{name}"', **shared.provenance()}
        evaluation = f"{IMAGES} MNIST test images at random, binarised at random once; nats per image"
        shared.store(RESULTS, found, "parts", name, evaluation=evaluation)
        print(f"{name}: {found['cpu_minutes']} CPU minutes", flush=True)


if __name__ == "__main__":
    main()
