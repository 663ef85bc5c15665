"""Measure what each measure of chapter 9's recipe does: ``python -m experiments.measure_ablation [ARM ...]``.

Writes book/results/ablation.json. Written before the first run:

Question. Which of the four measures (the decoder started at the mean image, Adam's beta2 of 0.99, the warm-up, the fall
of the rate to zero) lowers the -ELBO that the model 784-400-20 reaches in three epochs, and by how much?
Measure. Test -ELBO after three epochs of MNIST's 60,000 images in batches of 128; paired differences over the seeds.
Rivals. The recipe with one measure taken away; Adam at a constant rate with its usual betas, with one measure added.
The same chance. Each arm has a peak rate of its own, chosen on 5,000 validation images with seed 0 from RATES; where
the highest of them is the best, twice that rate is tried as well. Added after the first runs, in which it was the best
for two arms: half of the lowest rate is tried, too.
Yes: the difference from the recipe, or from the constant rate, is more than three standard errors from zero. No measure
is called useless: where the interval of two standard errors holds zero, it is "not decided", with the interval.

Added later: "small", the same on the first 10,000 images (2,000 of them to choose the rate), three seeds, without the
arms that add one measure. It takes two minutes.

Names choose among the arms. With OMP_NUM_THREADS=1 an arm takes two minutes or three, and everything twenty minutes.
"""

import math
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch

from experiments import shared
from vaelib import data
from vaelib.evaluation import mean_elbo
from vaelib.vae import VAE

RESULTS = shared.results("ablation")
MODEL: dict[str, Any] = {"hidden_dims": [400], "latent_dim": 20, "activation": "relu"}
EPOCHS = 3
BATCH_SIZE = 128
RATES = [2.25e-3, 4.5e-3, 9e-3]
SEEDS = [0, 1, 2, 3, 4]
MEASURES = ("mean", "beta2", "warm-up", "decay")
ARMS: dict[str, tuple[str, ...]] = {
    "recipe": MEASURES,
    **{f"without {each}": tuple(other for other in MEASURES if other != each) for each in MEASURES},
    **{f"{each} alone": (each,) for each in MEASURES},
    "none": (),
    "published": (),
}
THREE = {"without warm-up", "without decay", *(f"{each} alone" for each in MEASURES), "none", "published"}


def factor(t: int, total: int, measures: tuple[str, ...]) -> float:
    """Return the rate of step t as a fraction of its peak."""
    warm_up = max(1, round(0.1 * total)) if "warm-up" in measures else 0
    up = (t + 1) / warm_up if warm_up else 1.0
    down = (total - t) / max(1, total - warm_up) if "decay" in measures else 1.0
    return min(1.0, up, down)


def batches(n: int, epochs: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield the rows of each step in the order in which `vaelib.training.fit` takes them."""
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        yield from torch.randperm(n, generator=generator).split(BATCH_SIZE)


def train(images: torch.Tensor, measures: tuple[str, ...], rate: float, seed: int, epochs: int = EPOCHS) -> VAE:
    """Train with these measures alone; with all of them, as `fit` does."""
    model = VAE(images[0].numel(), seed=seed, **MODEL)
    x = model.check(images)
    if "mean" in measures:
        model.start_at_mean(x)
    betas = (0.9, 0.99 if "beta2" in measures else 0.999)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=betas, fused=True)
    noise = torch.Generator().manual_seed(seed)
    total = epochs * math.ceil(len(x) / BATCH_SIZE)
    for t, rows in enumerate(batches(len(x), epochs, seed)):
        optimizer.param_groups[0]["lr"] = rate * factor(t, total, measures)
        optimizer.zero_grad()
        (-model.elbo(x[rows], generator=noise, check=False).elbo.mean()).backward()
        optimizer.step()
    return model


def measure(
    arm: str, images: data.ImageData, test: data.ImageData, held_out: int = 5000, seeds: list[int] | None = None
) -> dict[str, Any]:
    """Choose the arm's rate on validation images, then train on all images with each seed and evaluate on the test."""
    began = time.process_time()
    fitting, validation = data.train_validation_split(images, held_out, seed=0)
    sweep: dict[float, float] = {}
    rates = [1e-3] if arm == "published" else list(RATES)
    while arm != "published" and rates:
        rate = rates.pop(0)
        sweep[rate] = -mean_elbo(train(fitting.images, ARMS[arm], rate, seed=0), validation.images)
        print(f"{arm}: rate {rate}, validation -ELBO {sweep[rate]:.2f}", flush=True)
        leading = min(sweep, key=sweep.__getitem__)
        if not rates and leading in (max(RATES), min(RATES)) and leading in (max(sweep), min(sweep)):
            rates = [2 * leading if leading == max(RATES) else leading / 2]
    best = min(sweep, key=sweep.__getitem__) if sweep else 1e-3
    seeds = seeds or (SEEDS[:3] if arm in THREE else SEEDS)
    found = [-mean_elbo(train(images.images, ARMS[arm], best, seed), test.images) for seed in seeds]
    print(f"{arm}: rate {best}, test -ELBO {', '.join(f'{each:.2f}' for each in found)}", flush=True)
    return {
        "measures": list(ARMS[arm]),
        "validation": {str(rate): round(value, 3) for rate, value in sweep.items()},
        "learning_rate": best,
        "seeds": seeds,
        "test": [round(each, 3) for each in found],
        "mean": round(statistics.mean(found), 3),
        "cpu_minutes": round((time.process_time() - began) / 60, 2),
        "command": f'python -m experiments.measure_ablation "{arm}"',
        "provenance": shared.provenance(),
    }


def small(images: data.ImageData, test: data.ImageData) -> dict[str, Any]:
    """Take the measures away, one at a time and all of them, on 10,000 images with three seeds."""
    few = images.subset(10_000)
    names = [name for name in ARMS if name == "none" or not name.endswith(("alone", "published"))]
    arms = {name: measure(name, few, test, held_out=2000, seeds=SEEDS[:3]) for name in names}
    return {
        "summary": [SMALL],
        "images": len(few),
        "seeds": SEEDS[:3],
        "cpu_minutes": round(sum(part["cpu_minutes"] for part in arms.values()), 2),
        "command": "python -m experiments.measure_ablation small",
        "provenance": shared.provenance(),
        "differences": differences(arms),
        "arms": arms,
    }


def difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Return mean and standard error of one arm's test -ELBO minus another's, paired over the seeds of both."""
    pairs = [a - b for a, b in zip(one["test"], other["test"], strict=False)]
    se = statistics.stdev(pairs) / len(pairs) ** 0.5
    return {"mean": round(statistics.mean(pairs), 3), "se": round(se, 3), "seeds": len(pairs)}


def differences(arms: dict[str, Any]) -> dict[str, Any]:
    """Return what is lost without each measure, and what each gains alone, for the arms that are stored."""
    found = {}
    for arm, part in arms.items():
        against = "none" if arm.endswith("alone") else "recipe"
        if arm != against and against in arms:
            found[arm] = {"against": against, **difference(part, arms[against])}
    return found


HEAD = {
    "question": "Which measures of the recipe lower the -ELBO of 784-400-20 after three epochs, and by how much?",
    "rivals": "the recipe with one measure taken away; a constant rate with Adam's usual betas, and one measure added",
    "tuning": "each arm its own peak rate, on 5,000 validation images with seed 0: 0.00225, 0.0045, 0.009; 0.018 "
    "where 0.009 is the best, 0.001125 where 0.00225 is; 'published' is Adam at 0.001 as published, not tuned",
    "evaluation": "test -ELBO of 10,000 grey MNIST images, z sampled once from q(z|x), nats per image",
}
SMALL = {
    "question": "What is lost in 237 steps, three epochs of 10,000 images, without one measure of the recipe?",
    "result": "decay {differences[without decay][mean]:.2f}, warm-up {differences[without warm-up][mean]:.2f}, "
    "start at the mean {differences[without mean][mean]:.2f}, beta2 {differences[without beta2][mean]:.2f} nats",
    "error": "{differences[without decay][se]:.2f}, {differences[without warm-up][se]:.2f}, "
    "{differences[without mean][se]:.2f}, {differences[without beta2][se]:.2f} (paired, over seeds)",
}
SUMMARY = [
    {
        "question": "What is lost in three epochs when one measure of the recipe is taken away?",
        "result": "decay {differences[without decay][mean]:.2f}, warm-up {differences[without warm-up][mean]:.2f}, "
        "start at the mean {differences[without mean][mean]:.2f}, beta2 {differences[without beta2][mean]:.2f} nats",
        "error": "{differences[without decay][se]:.2f}, {differences[without warm-up][se]:.2f}, "
        "{differences[without mean][se]:.2f}, {differences[without beta2][se]:.2f} (paired, over seeds)",
        "seeds": "3 to 5",
    },
    {
        "question": "What does one measure alone change, at a constant rate otherwise?",
        "result": "decay {differences[decay alone][mean]:.2f}, warm-up {differences[warm-up alone][mean]:.2f}, "
        "start at the mean {differences[mean alone][mean]:.2f}, beta2 {differences[beta2 alone][mean]:.2f} nats",
        "error": "{differences[decay alone][se]:.2f}, {differences[warm-up alone][se]:.2f}, "
        "{differences[mean alone][se]:.2f}, {differences[beta2 alone][se]:.2f} (paired, over seeds)",
        "seeds": 3,
    },
]


def main() -> None:
    stored = shared.read(RESULTS)
    names = list(shared.chosen([*ARMS, "small"], {**stored.get("arms", {}), "small": stored.get("small", {})}, __doc__))
    images, test = data.load("mnist"), data.load("mnist", "test")
    for name in names:
        if name == "small":
            shared.store(RESULTS, small(images, test), name, **HEAD)
        else:
            shared.store(RESULTS, measure(name, images, test), "arms", name, **HEAD)
        record = shared.read(RESULTS)
        if arms := record.get("arms"):
            minutes = round(sum(part["cpu_minutes"] for part in arms.values()), 1)
            record |= {"cpu_minutes": minutes, "differences": differences(arms)}
            if arms.keys() == ARMS.keys():
                record |= {"summary": SUMMARY, "command": "python -m experiments.measure_ablation"}
            shared.write(RESULTS, record)


if __name__ == "__main__":
    main()
