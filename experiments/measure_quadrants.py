"""Measure the quadrant table of chapter 12 and record how: ``python -m experiments.measure_quadrants [NAME ...]``.

Writes book/results/quadrants.json: of each test image 1, 2 or 3 quadrants are seen, and the negative log-likelihood of
the unseen pixels is measured for a deterministic regressor and for CVAEs with both kinds of prior. Rate and number of
epochs were compared on 5,000 validation images with one quadrant seen; each model keeps its best epoch on those images,
and the test images are touched once. Each finished part is written at once, so that a run that stops early loses only
the part under way; names choose among the parts. With OMP_NUM_THREADS=1 everything takes about 30 minutes.
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


def main() -> None:
    parts = [f"sweep {kind}" for kind in SWEEPS] + list(CELLS)
    found = shared.read(RESULTS)
    stored = {f"sweep {kind}": part for kind, part in found.get("sweeps", {}).items()} | found.get("cells", {})
    names = list(shared.chosen(parts, stored, __doc__, choose_device()))
    fitting, validation = data.train_validation_split(data.load("mnist"), 5000, seed=SEED)
    test = data.load("mnist", "test")
    for name in names:
        if name.startswith("sweep "):
            sweep(name.removeprefix("sweep "), fitting, validation)
        else:
            measure(name, fitting, validation, test)


if __name__ == "__main__":
    main()
