"""VAEs with convolutions or multilayer perceptrons, trained step by step: what measure_networks is made of."""

import copy
import itertools
import math
import statistics
import time
from typing import Any, cast

import torch
from torch import Tensor

from vaelib import data, pretrained
from vaelib.evaluation import bits_per_dimension
from vaelib.training import _rate
from vaelib.vae import VAE

LATENT = {"mnist": 20, "digits": 5, "scene": 16, "patches": 64}
CHANNELS = (16, 32)
SIZES: dict[str, list[tuple[int, ...]]] = {"wide": [(150,), (400,)], "deep": [(200, 200), (400, 400)]}
BATCH = 64
LOOKS = 5
# Widths of hidden layers; None for convolutions with CHANNELS, ("channels", 16, 32, 64) for others.
Sizes = tuple[Any, ...] | None
TUNING_SEED = 100
SEEDS = (0, 1, 2)
STEPS = {"mnist": 640, "scene": 440, "patches": 440}
RATES = {"mnist": (1e-3, 2e-3, 4e-3), "scene": (2e-3, 4e-3, 8e-3), "patches": (2e-3, 4e-3, 8e-3)}


class Images:
    """The images of one data set: to fit, to choose by, and to test; MNIST's are drawn from their grey levels."""

    def __init__(self, name: str) -> None:
        self.name, train, test = name, data.load(name), data.load(name, "test")
        if name == "patches":
            column = torch.arange(len(train)) % 47
            fitting, validation = train.subset(column <= 36), train.subset(column >= 40)
        else:
            fitting, validation = data.train_validation_split(train, min(1000, len(train) // 5), seed=TUNING_SEED)
        shape = train.images.shape[-3:] if train.images.ndim == 4 else (1, *train.images.shape[1:])
        self.fitting, self.validation, self.test = (x.images.reshape(-1, *shape) for x in (fitting, validation, test))
        self.binary, self.shape = name in ("mnist", "digits"), tuple(shape)
        if self.binary:
            draw = torch.Generator().manual_seed(TUNING_SEED)
            self.validation, self.test = data.binarize(self.validation, draw), data.binarize(self.test, draw)


def shuffle(x: Tensor, places: Tensor | None) -> Tensor:
    """Return images (N, C, H, W) with their places permuted, the same for all channels; as they are for None."""
    return x if places is None else x.flatten(2)[..., places].reshape(x.shape)


def build(images: Images, sizes: Sizes, seed: int) -> VAE:
    """Return a fresh model with convolutions or hidden layers, which decodes the mean of the images."""
    convolutional = sizes is None or sizes[0] == "channels"
    config: dict[str, Any] = {"data_dim": images.shape, "latent_dim": LATENT[images.name]}
    config["likelihood"] = "bernoulli" if images.binary else "discretised_logistic"
    config["hidden_dims"] = () if convolutional else sizes
    model: Any = pretrained.build(
        config | ({"channels": sizes[1:] if sizes else CHANNELS} if convolutional else {}), seed
    )
    with torch.no_grad():
        model.start_at_mean(images.fitting)
        if convolutional:
            model.decoder[-1].bias.copy_(model.likelihood.start(images.fitting.mean((0, 2, 3))))
    return cast(VAE, model)


def parameters(model: VAE) -> int:
    return sum(each.numel() for each in model.parameters())


def small(images: Images) -> tuple[int]:
    """Return the width with which an MLP comes nearest to the parameters of the convolutions."""
    wanted = parameters(build(images, None, 0))
    one, two = (parameters(build(images, (width,), 0)) for width in (1, 2))
    return (max(1, round(1 + (wanted - one) / (two - one))),)


def sizes_of(images: Images) -> dict[str, list[Sizes]]:
    return {"conv": [None], "shuffled": [None], "small": [small(images)], **SIZES}  # type: ignore[dict-item]


class Run:
    """A model and its optimizer, and one step of training at a time."""

    def __init__(self, images: Images, sizes: Sizes, seed: int, places: Tensor | None = None) -> None:
        self.images, self.places = images, places
        self.model = build(images, sizes, seed)
        self.optimizer = torch.optim.Adam(self.model.parameters(), betas=(0.9, 0.99), fused=True)
        self.generator = torch.Generator().manual_seed(seed)
        self.order = iter(())

    def rows(self) -> Tensor:
        """Return the next batch of an endless row of shuffled passes."""
        if (found := next(self.order, None)) is None:
            order = torch.randperm(len(self.images.fitting), generator=self.generator)
            self.order = iter(order.split(BATCH)[: len(order) // BATCH])
            return next(self.order)
        return found

    def step(self, rate: float) -> None:
        x = self.images.fitting[self.rows()]
        x = data.binarize(x, self.generator) if self.images.binary else x
        loss = -self.model.elbo(shuffle(x, self.places), generator=self.generator, check=False).elbo.mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()


@torch.no_grad()
def bits(model: VAE, x: Tensor, places: Tensor | None = None) -> Tensor:
    """Return the -ELBO of each image in bits per dimension, with the same noise for all models: ``(N,)``."""
    noise = torch.Generator().manual_seed(0)
    elbo = torch.cat([model.elbo(shuffle(part, places), generator=noise, check=False).elbo for part in x.split(250)])
    return bits_per_dimension(model, elbo.double(), levels=2 if model.likelihood == "bernoulli" else None)


def train(
    images: Images, sizes: Sizes, rate: float, steps: int, seed: int, places: Tensor | None = None
) -> tuple[VAE, dict[str, float]]:
    """Train, and return the model of the best look at the validation images, with its bits and the CPU seconds."""
    run, seconds = Run(images, sizes, seed, places), 0.0
    ends = [round(steps * look / LOOKS) for look in range(1, LOOKS + 1)]
    best: tuple[float, int, dict[str, Any]] = (math.inf, 0, {})
    for start, end in itertools.pairwise([0, *ends]):
        began = time.process_time()
        for step in range(start, end):
            run.step(_rate(step, steps, rate, "linear"))
        seconds += time.process_time() - began
        found = bits(run.model, images.validation, places).mean().item()
        if found < best[0]:
            best = (found, end, copy.deepcopy(run.model.state_dict()))
    if best[1]:
        run.model.load_state_dict(best[2])
    return run.model, {
        "validation": round(best[0], 4),
        "best step": best[1],
        "steps": steps,
        "seconds": round(seconds, 1),
    }


def cost(images: Images, groups: dict[str, list[Sizes]], rounds: int = 3, steps: int = 12) -> dict[str, float]:
    """Return CPU milliseconds of a step for each size, the median of rounds in which they take turns."""
    kinds = {str(sizes): sizes for group in groups.values() for sizes in group}
    runs = {name: Run(images, sizes, 0) for name, sizes in kinds.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _, (name, run) in itertools.product(range(rounds + 1), runs.items()):
        began = time.process_time()
        for _ in range(steps):
            run.step(1e-3)
        seconds[name].append((time.process_time() - began) / steps)
    return {name: round(1000 * statistics.median(each[1:]), 3) for name, each in seconds.items()}


def places_for(arm: str, images: Images, seed: int) -> Tensor | None:
    draw = torch.Generator().manual_seed(1000 + seed)
    return torch.randperm(math.prod(images.shape[1:]), generator=draw) if arm == "shuffled" else None


def paired(
    parts: dict[str, Any], name: str, arm: str, other: str, key: str = "test", seeds: Any = SEEDS
) -> dict[str, float] | None:
    """Return the mean of one arm's bits minus another's over seeds, with its standard error; None before two seeds."""
    runs = [parts[f"{name} {seed}"]["runs"] for seed in seeds if f"{name} {seed}" in parts]
    if len(runs) < 2:
        return None
    values = [run[arm][key] - run[other][key] for run in runs]
    return {
        "mean": round(statistics.mean(values), 4),
        "se": round(statistics.stdev(values) / len(values) ** 0.5, 4),
        "seeds": len(values),
    }


def better(tuning: dict[str, Any]) -> str:
    """Return "wide" or "deep", whichever has the fewer bits of validation images in tuning."""
    return min(SIZES, key=lambda arm: min(min(rates.values()) for rates in tuning[arm]["tried"].values()))


def steps_of(arm: str, sizes: Sizes, name: str, costs: dict[str, float]) -> int:
    """Return how many steps an arm makes: conv's, or as many as fit into conv's time."""
    return round(STEPS[name] * (costs["None"] / costs[str(sizes)] if arm in SIZES else 1))
