"""Measure the quadrant table of chapter 12 and record how: ``python -m experiments.measure_quadrants [NAME ...]``.

Writes book/results/quadrants.json: of each test image 1, 2 or 3 quadrants are seen, and the negative log-likelihood of
the unseen pixels is measured for a deterministic regressor and for CVAEs with both kinds of prior. Rate and number of
epochs were compared on 5,000 validation images with one quadrant seen; each model keeps its best epoch on those images,
and the test images are touched once. Each finished part is written at once, so that a run that stops early loses only
the part under way; names choose among the parts. With OMP_NUM_THREADS=1 everything takes about 45 minutes.

The parts "few ..." ask two questions of small models, each of which has its own settings chosen. Question: how many
nats does a prior network add to the bound, and how far is a CVAE ahead of a regressor? Measure: -ELBO, or exactly
-log p(x|y), on the 10,000 test images, one quadrant seen; paired by seed, each with its own 4,000 training images, six
seeds. The rivals: the fixed prior; the fixed prior with as many weights as the prior network brings; a regressor with
four pairs of width and dropout. Settings are chosen by the mean over three other seeds, on 2,000 other training images.
Added after the first tuning, in which the regressor was best at the largest rate, width and dropout: five settings.
Yes: a lead of more than 2.6 standard errors over the seeds (95%, five degrees of freedom); less is not decided.
"""

import math
import time
from typing import Any

import torch
from torch import Tensor, nn

from experiments import shared
from vaelib import data, evaluation
from vaelib.cvae import CVAE
from vaelib.distributions import bernoulli_log_prob
from vaelib.networks import mlp
from vaelib.training import choose_device, fit

RESULTS = shared.results("quadrants")
SEED = 0
# (row, column) of the quadrants in the order in which they are seen: bottom left first, as in Pyro's tutorial.
ORDER = [(1, 0), (0, 0), (0, 1)]
SMALL: dict[str, Any] = {"hidden_dims": [400], "latent_dim": 30}
PUBLISHED: dict[str, Any] = {"hidden_dims": [500, 500], "latent_dim": 200}
SWEEPS: dict[str, list[dict[str, Any]]] = {
    "nn": [
        {"epochs": 5, "learning_rate": 5e-4},
        {"epochs": 5, "learning_rate": 1e-3},
        {"epochs": 5, "learning_rate": 3e-3},
        {"epochs": 10, "learning_rate": 3e-3},
        {"epochs": 10, "learning_rate": 5e-3},
        {"epochs": 20, "learning_rate": 3e-3},
    ],
    "cvae": [
        {"epochs": 5, "learning_rate": 5e-3},
        {"epochs": 10, "learning_rate": 3e-3},
        {"epochs": 10, "learning_rate": 5e-3},
    ],
}
CELLS = {
    **{f"nn {n}": {"quadrants": n, "hidden_dims": [500, 500]} for n in (1, 2, 3)},
    **{f"conditional {n}": {"quadrants": n, "prior": "conditional", **SMALL} for n in (1, 2, 3)},
    **{f"standard {n}": {"quadrants": n, "prior": "standard", **SMALL} for n in (1, 2, 3)},
    # The rate and the width that others published; the schedule is ours.
    "published sizes 1": {
        "quadrants": 1,
        "prior": "conditional",
        **PUBLISHED,
        "training": {"epochs": 10, "learning_rate": 1e-3},
    },
}
RATES = [5e-3, 1e-2, 2e-2, 3e-2]
FEW: dict[str, Any] = {"images": 4000, "held_out": 2000, "epochs": 15, "latent_dim": 10}
FEW_SEEDS, TUNING_SEEDS = range(6), (100, 101, 102)
# For each model the settings that are tried. The last two have as many weights as the model with the other prior.
FEW_TRIED: dict[str, list[dict[str, Any]]] = {
    "conditional": [{"hidden": 100, "learning_rate": rate} for rate in RATES],
    "standard": [{"hidden": 100, "learning_rate": rate} for rate in RATES],
    "regressor": [
        {"hidden": width, "dropout": dropout, "learning_rate": rate}
        for width in (200, 500)
        for dropout in (0.0, 0.3)
        for rate in RATES[:3]
    ],
    "standard, more weights": [{"hidden": 114, "learning_rate": rate} for rate in RATES],
    "conditional, fewer weights": [{"hidden": 88, "learning_rate": rate} for rate in RATES],
}
FEW_FURTHER: dict[str, list[dict[str, Any]]] = {
    "regressor": [
        {"hidden": 500, "dropout": 0.3, "learning_rate": 3e-2},
        {"hidden": 500, "dropout": 0.5, "learning_rate": 2e-2},
        {"hidden": 1000, "dropout": 0.3, "learning_rate": 1e-2},
        {"hidden": 1000, "dropout": 0.3, "learning_rate": 2e-2},
        {"hidden": 1000, "dropout": 0.5, "learning_rate": 2e-2},
    ]
}
CURVE = {"images": 100, "from_q": [1, 10, 100, 1000], "from_prior": [1, 10, 100, 1000, 10_000]}


def seen_pixels(quadrants: int, height: int = 28, width: int = 28) -> Tensor:
    """Return which pixels of an image are seen, as booleans ``(height width,)``.

    One quadrant: bottom left. Two: the left half. Three: all but the bottom right.
    """
    seen = torch.zeros(2, height // 2, 2, width // 2, dtype=torch.bool)
    for row, column in ORDER[:quadrants]:
        seen[row, :, column] = True
    return seen.flatten()


def split(images: Tensor, quadrants: int) -> tuple[Tensor, Tensor]:
    """Return the unseen pixels x and the seen ones y of images ``(N, H, W)``."""
    seen = seen_pixels(quadrants, *images.shape[1:])
    pixels = images.flatten(1)
    return pixels[:, ~seen], pixels[:, seen]


def regressor_objective(model: nn.Module, x: Tensor, y: Tensor | None, step: int, generator: torch.Generator) -> Tensor:
    """Return log p(x|y) of the regressor, whose pixels are independent given y."""
    return bernoulli_log_prob(x, model(y), check=False)


def train(
    spec: dict[str, Any], training: dict[str, Any], fitting: data.ImageData, validation: data.ImageData
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the model at its best epoch on validation images, and how it got there."""
    (x, y), held_out = (split(part.images, spec["quadrants"]) for part in (fitting, validation))
    torch_seed = torch.Generator().manual_seed(SEED)
    model: nn.Module
    if "prior" in spec:
        model = CVAE(x.shape[1], y.shape[1], spec["hidden_dims"], spec["latent_dim"], prior=spec["prior"], seed=SEED)
        objective = None
    else:
        model = mlp((y.shape[1], *spec["hidden_dims"], x.shape[1]), generator=torch_seed)
        objective = regressor_objective
    start = time.process_time()
    history = fit(model, x, y=y, objective=objective, validation=held_out, seed=SEED, progress=False, **training)
    by_epoch = [-value for value in history.validation_elbo or history.validation["objective"]]
    trained = [-value for value in history.elbo or history.train["objective"]]
    assert history.best_epoch is not None and history.best_weights is not None
    model.load_state_dict(history.best_weights)
    return model, {
        **training,
        "best_epoch": history.best_epoch,
        "validation": round(by_epoch[history.best_epoch - 1], 3),
        "validation_by_epoch": rounded(by_epoch),
        "train_by_epoch": rounded(trained),
        "cpu_seconds": round(time.process_time() - start),
    }


@torch.no_grad()
def evaluate(model: nn.Module, x: Tensor, y: Tensor, curve: dict[str, Any] = CURVE) -> dict[str, Any]:
    """Return the negative conditional log-likelihoods of test images, told apart by how they were estimated."""
    if not isinstance(model, CVAE):
        exact = -bernoulli_log_prob(x, model(y))
        return {"exact": summary(exact)}
    noise = torch.Generator().manual_seed(SEED)
    terms = [model.elbo(*batch, generator=noise) for batch in zip(x.split(1000), y.split(1000), strict=True)]
    few = slice(0, curve["images"])
    found: dict[str, Any] = {
        "elbo": summary(torch.cat([-term.elbo for term in terms])),
        "kl": summary(torch.cat([term.kl for term in terms])),
        "from_q_100": summary(-evaluation.log_evidence(model, x, 100, y)),
        "from_prior_100": summary(-evaluation.log_evidence(model, x, 100, y, proposal="prior")),
        "curve": {"images": len(x[few])},
    }
    for name, proposal in (("from_q", "posterior"), ("from_prior", "prior")):
        found["curve"][name] = {
            str(n): summary(-evaluation.log_evidence(model, x[few], n, y[few], proposal=proposal)) for n in curve[name]
        }
    return found


def summary(values: Tensor) -> dict[str, float]:
    """Return the mean over images and its standard error, in nats."""
    numbers = values.double()
    return {
        "mean": round(numbers.mean().item(), 3),
        "standard_error": round(numbers.std().item() / math.sqrt(len(numbers)), 3),
    }


def rounded(values: list[float]) -> list[float]:
    return [round(value, 3) for value in values]


def store(group: str, name: str, found: dict[str, Any]) -> None:
    """Add one finished part to what is stored."""
    found["provenance"] = {
        "command": f'python -m experiments.measure_quadrants "{name if group == "cells" else "sweep " + name}"',
        "seed": SEED,
        **shared.provenance(choose_device()),
    }
    shared.store(
        RESULTS,
        found,
        group,
        name,
        what="negative log p(x|y) of the unseen pixels x of MNIST test images given the seen ones y, mean and standard "
        "error over the images, nats per image; grey pixels, not binarised; z sampled",
        split="55,000 training images to fit, 5,000 to choose with, 10,000 test images",
    )


def sweep(kind: str, fitting: data.ImageData, validation: data.ImageData) -> None:
    """Compare settings on validation images, one quadrant seen."""
    spec = CELLS["nn 1" if kind == "nn" else "conditional 1"]
    tried = []
    for training in SWEEPS[kind]:
        tried.append(train(spec, training, fitting, validation)[1])
        print(
            kind, {key: tried[-1][key] for key in ("epochs", "learning_rate", "best_epoch", "validation")}, flush=True
        )
    store("sweeps", kind, {"quadrants": spec["quadrants"], "tried": tried})


def best_settings(kind: str) -> dict[str, Any]:
    """Return the stored settings with the lowest validation value."""
    best = min(shared.read(RESULTS)["sweeps"][kind]["tried"], key=lambda run: run["validation"])
    return {key: best[key] for key in ("epochs", "learning_rate")}


def measure(name: str, fitting: data.ImageData, validation: data.ImageData, test: data.ImageData) -> None:
    spec = dict(CELLS[name])
    training = spec.pop("training", None) or best_settings("cvae" if "prior" in spec else "nn")
    model, how = train(spec, training, fitting, validation)
    found = evaluate(model, *split(test.images, spec["quadrants"]))
    cell: dict[str, Any] = {"model": spec, "training": how, "test": found}
    if name.startswith("conditional"):
        cell["summary"] = [told_apart(spec["quadrants"], how["cpu_seconds"])]
    store("cells", name, cell)
    print(name, how["validation"], {key: found[key] for key in found if key != "curve"}, flush=True)


def told_apart(quadrants: int, cpu_seconds: float) -> dict[str, Any]:
    """Return the line of the index of experiments on the three estimates of a model."""
    values = [f"{{test[{field}][{{}}]:.1f}}" for field in ("elbo", "from_q_100", "from_prior_100")]
    return {
        "question": f"What do -ELBO, 100 samples from q and 100 from the prior give (quadrants seen: {quadrants})?",
        "result": ", ".join(values).replace("{}", "mean") + " nats",
        "error": ", ".join(values).replace("{}", "standard_error") + " (se over images; one seed)",
        "minutes": round(cpu_seconds / 60, 1),  # of training
    }


def few(kind: str, setting: dict[str, Any], seed: int, train: data.ImageData) -> tuple[nn.Module, float]:
    """Return a small model trained on few images, and its -ELBO or -log p(x|y) on others that were held out."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(train), generator=generator)
    (x, y), held_out = (
        split(train.images[part], 1) for part in rows[: FEW["images"] + FEW["held_out"]].split(FEW["images"])
    )
    model: nn.Module
    if kind == "regressor":
        first, relu, last = mlp((y.shape[1], setting["hidden"], x.shape[1]), generator=generator)
        model = nn.Sequential(first, relu, nn.Dropout(setting["dropout"]), last)
        objective = regressor_objective
    else:
        prior = kind.partition(",")[0]
        model = CVAE(x.shape[1], y.shape[1], (setting["hidden"],), FEW["latent_dim"], prior=prior, seed=seed)
        objective = None
    how = {"epochs": FEW["epochs"], "learning_rate": setting["learning_rate"], "seed": seed}
    fit(model, x, y=y, objective=objective, progress=False, device="cpu", **how)
    return model, loss(model, *held_out)


@torch.no_grad()
def loss(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return -ELBO, or for a regressor exactly -log p(x|y), in nats per image."""
    if isinstance(model, CVAE):
        return round(-evaluation.mean_elbo(model, x, y), 3)
    return round(-bernoulli_log_prob(x, model.eval()(y)).mean().item(), 3)


def few_tuning(settings: dict[str, list[dict[str, Any]]], train: data.ImageData) -> dict[str, Any]:
    """Compare settings of the small models on held-out training images."""
    tried = {
        kind: [
            {**setting, "validation": [few(kind, setting, seed, train)[1] for seed in TUNING_SEEDS]} for setting in some
        ]
        for kind, some in settings.items()
    }
    return {"seeds": TUNING_SEEDS, "model": FEW, "tried": tried}


def few_choice(kind: str) -> dict[str, Any]:
    """Return the stored settings of a small model that were best on held-out images, on average over the seeds."""
    found = shared.read(RESULTS)["few"]
    tried = [run for part in ("tuning", "further tuning") for run in found[part]["tried"].get(kind, [])]
    best = min(tried, key=lambda run: sum(run["validation"]))
    return {key: value for key, value in best.items() if key != "validation"}


def few_seed(seed: int, train: data.ImageData, test: data.ImageData) -> dict[str, Any]:
    """Return the loss of each small model, trained with its own best settings, on the test images."""
    found: dict[str, Any] = {"seed": seed, "model": FEW, "test": {}, "weights": {}, "settings": {}}
    for kind in FEW_TRIED:
        setting = few_choice(kind)
        model = few(kind, setting, seed, train)[0]
        found["test"][kind] = loss(model, *split(test.images, 1))
        found["weights"][kind] = sum(weight.numel() for weight in model.parameters())
        found["settings"][kind] = setting
    return found


def measure_few(name: str, test: data.ImageData) -> None:
    """Measure and store one part of the comparison of small models."""
    start, train = time.process_time(), data.load("mnist")
    if name.startswith("seed "):
        found = few_seed(int(name.removeprefix("seed ")), train, test)
    else:
        found = few_tuning(FEW_TRIED if name == "tuning" else FEW_FURTHER, train)
    found["cpu_minutes"] = round((time.process_time() - start) / 60, 1)
    found["provenance"] = {
        "command": f'python -m experiments.measure_quadrants "few {name}"',
        **shared.provenance(),
    }
    shared.store(RESULTS, found, "few", name)
    print("few", name, found.get("tried", found.get("test")), flush=True)


def main() -> None:
    few_parts = ["few tuning", "few further tuning", *(f"few seed {seed}" for seed in FEW_SEEDS)]
    parts = [f"sweep {kind}" for kind in SWEEPS] + list(CELLS) + few_parts
    found = shared.read(RESULTS)
    stored = {f"sweep {kind}": part for kind, part in found.get("sweeps", {}).items()} | found.get("cells", {})
    stored |= {f"few {name}": part for name, part in found.get("few", {}).items()}
    names = list(shared.chosen(parts, stored, __doc__, choose_device()))
    fitting, validation = data.train_validation_split(data.load("mnist"), 5000, seed=SEED)
    test = data.load("mnist", "test")
    for name in names:
        if name.startswith("sweep "):
            sweep(name.removeprefix("sweep "), fitting, validation)
        elif name.startswith("few "):
            measure_few(name.removeprefix("few "), test)
        else:
            measure(name, fitting, validation, test)


if __name__ == "__main__":
    main()
