"""Two rivals that were added to measure_networks after its first results: more time, and other channels."""

import math
from typing import Any

import torch
from torch import Tensor

from experiments.networks import (
    RATES,
    SEEDS,
    STEPS,
    TUNING_SEED,
    Images,
    Sizes,
    better,
    bits,
    cost,
    paired,
    steps_of,
    train,
)
from vaelib.distributions import bernoulli_log_prob
from vaelib.likelihoods import DiscretisedLogistic

CHANNELS: list[Sizes] = [("channels", 16, 32, 64), ("channels", 32, 64)]


def again(loaded: dict[str, Images], parts: dict[str, Any]) -> dict[str, Any]:
    """Train the rivals in time that took less than conv, for as much longer; the difference of conv from that."""
    found: dict[str, Any] = {}
    for name, images in loaded.items():
        tuning, costs = parts[f"tuning {name}"]["arms"], parts["cost"]["milliseconds"][name]
        rival, runs = better(tuning), [parts[f"{name} {seed}"]["runs"] for seed in SEEDS]
        ratio = sum(run["conv"]["seconds"] for run in runs) / max(1, sum(run[rival]["seconds"] for run in runs))
        if ratio > 1.05:
            sizes, rate = tuple(tuning[rival]["sizes"]), tuning[rival]["rate"]
            steps = round(ratio * steps_of(rival, sizes, name, costs))
            repeats = {}
            for seed, run in zip(SEEDS, runs, strict=True):
                model, said = train(images, sizes, rate, steps, seed)
                test = round(bits(model, images.test).mean().item(), 4)
                repeats[f"{name} {seed}"] = {"runs": run | {"again": said | {"test": test}}}
            found[name] = {"ratio": round(ratio, 3), "conv - again": paired(repeats, name, "conv", "again")}
            found[name]["runs"] = [each["runs"]["again"] for each in repeats.values()]
    return found


def other_channels(images: Images) -> dict[str, Any]:
    """Return the validation bits that convolutions of other sizes reach in a quarter of conv's time, for each rate."""
    costs = cost(images, {"conv": [None], "other": CHANNELS})
    found: dict[str, Any] = {}
    for sizes in CHANNELS:
        steps = round(STEPS[images.name] * costs["None"] / costs[str(sizes)]) // 4
        tries = {rate: train(images, sizes, rate, steps, TUNING_SEED)[1]["validation"] for rate in RATES[images.name]}
        found[str(sizes)] = {f"{rate:g}": value for rate, value in tries.items()}
    return found | {"milliseconds": costs}


def mean_image(
    images: Images, scales: tuple[float, ...] = (0.05, 0.06, 0.07, 0.08, 0.1, 0.13, 0.17, 0.2, 0.25)
) -> dict[str, Any]:
    """Return the bits of test images by a model without a code: each pixel's mean, the scale best for those to fit."""
    mean = images.fitting.mean(0).flatten()
    if images.binary:
        logits = torch.logit(mean, eps=1e-3).expand(len(images.test), -1)
        nats = bernoulli_log_prob(images.test.flatten(1), logits).mean().item()
        return {"bits": round(-nats / (len(mean) * math.log(2)), 4)}

    def bits_of(x: Tensor, scale: float) -> float:
        nats = DiscretisedLogistic(scale=scale).log_prob(x.flatten(1), mean).mean().item()
        return -nats / (len(mean) * math.log(2))

    with torch.no_grad():
        scale = min(scales, key=lambda each: bits_of(images.fitting[:2000], each))
        return {"bits": round(bits_of(images.test, scale), 4), "scale": scale}
