"""Pictures of one's own: what few of them and near duplicates do to bits per dimension.

Written before the first full run. The model, its measure and its learning rate are those of measure_colour: the
discretised logistic at the rate that was chosen there.

Part "codes": bits of codes that know no latent variable, made for the patches to fit, on the test patches.
Part "few". Question: how many patches of photographs are too few for this model? It is fitted to 100, 400, 1,600 and
all 3,500 patches, drawn at random, for as many steps. Measure: bits per dimension of test patches, beside those of
patches that it was fitted to. "Too few": the 95% interval of the paired difference in test bits from all lies above
zero. Rival: a code without a model, the difference from the left neighbour (measure_colour).
Part "duplicates". Question: what do near duplicates of test pictures among those to fit feign? 24 patches are held out.
One model is fitted to others, among them those that share pixels with a held-out one; one to as many without these.
The held-out patches are the same. "They feign": the 95% interval of the paired difference lies above zero.
Part "burst", added when two seeds of "duplicates" had been seen, which differed in sign, and all of "few", where 100
pictures were too few. The same question where the model learns its pictures by heart: it is fitted to 100, all of which
share pixels with a held-out one, or none. The same criterion.
Part "bursts", added when the interval of "burst" held zero (+0.25 with half a width of 0.29): the same with five other
seeds, OTHER_SEEDS, judged by themselves. Whatever it says, both are reported.
Three seeds each, where nothing else is said, which draw patches, weights, order and noise.

With OMP_NUM_THREADS=1 it takes about seven minutes.
"""

import io
import time
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from experiments import measure_colour as colour
from experiments import shared
from vaelib import data

RESULTS = shared.results("pictures")
SEEDS = [0, 1, 2]
OTHER_SEEDS = [10, 11, 12, 13, 14]
FEW = [100, 400, 1600]
HELD_OUT = 12  # of each photograph


def rate() -> float:
    """Return the learning rate that measure_colour chose."""
    return shared.read(colour.RESULTS)["parts"]["patches"]["tuning"][colour.LOGISTIC]["rate"]


def bits_of(own: Tensor, shown: list[Tensor], seed: int, steps: int) -> list[float]:
    """Return the bits of some pictures under a model that is fitted to others."""
    model = colour.train(colour.LOGISTIC, own, rate(), seed, steps)
    return [colour.bits(model, each)["bits"] for each in shown]


def entropy_coded(train_bytes: np.ndarray, test_bytes: np.ndarray, n: int) -> float:
    """Return bits a byte of a code made for the training bytes, one added to each of its n counts."""
    counts = np.bincount(train_bytes.ravel(), minlength=n) + 1
    return float(-np.log2(counts / counts.sum())[test_bytes.ravel()].mean())


def codes() -> dict[str, Any]:
    """Return bits per dimension of codes that know no latent variable."""
    fitted, test = colour.patches()[0].reshape(-1, *colour.SHAPE), data.load("patches", "test").images
    ours, theirs = ((255 * each).round().numpy().astype(int) for each in (fitted, test))
    steps, their_steps = (np.diff(each, axis=-1) + 255 for each in (ours, theirs))
    histogram = entropy_coded(ours, theirs, 256)
    left = (entropy_coded(steps, their_steps, 511) * 31 + histogram) / 32  # the first column has no neighbour
    sheet = Image.fromarray(np.moveaxis(np.concatenate(theirs, axis=-1), 0, 2).astype(np.uint8))
    stream = io.BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    bits = {
        "uniform": 8.0,
        "histogram": round(histogram, 4),
        "left neighbour": round(left, 4),
        "png": round(8 * len(stream.getvalue()) / theirs.size, 4),
    }
    return {"bits": bits}


def few(steps: int = colour.STEPS, sizes: list[int] = FEW) -> dict[str, Any]:
    """Return bits of pictures seen and of test pictures, by the number of pictures to fit."""
    fitted, test = colour.patches()[0].reshape(-1, *colour.SHAPE), data.load("patches", "test").images
    runs: dict[str, Any] = {}
    for n in [*sizes, len(fitted)]:
        rows = []
        for seed in SEEDS:
            order = torch.randperm(len(fitted), generator=torch.Generator().manual_seed(seed))
            own = fitted[order[:n]]
            rows.append(bits_of(own, [own[:182], test], seed, steps))
            print(n, seed, rows[-1], flush=True)
        seen, unseen = zip(*rows, strict=True)
        runs[str(n)] = {"seen": list(seen), "test": list(unseen)}
    all_of_them = runs[str(len(fitted))]["test"]
    return {
        "above_all": {
            str(n): colour.interval([a - b for a, b in zip(runs[str(n)]["test"], all_of_them, strict=True)])
            for n in sizes
        },
        "runs": runs,
    }


def sharing(held_out: Tensor) -> Tensor:
    """Return which patches of a grid share pixels with a held-out one, itself included: ``(P, rows, columns)``."""
    # patches lie 8 pixels apart and have 32: three to each side overlap
    return F.max_pool2d(held_out.float()[:, None], 7, 1, 3)[:, 0] > 0


def held_out_patches(grid: Tensor, generator: torch.Generator) -> Tensor:
    """Return which patches are held out, HELD_OUT of each photograph."""
    held_out = torch.zeros(grid.shape[:3], dtype=torch.bool)
    for photograph in held_out.view(2, -1):
        photograph[torch.randperm(len(photograph), generator=generator)[:HELD_OUT]] = True
    return held_out


def duplicates(steps: int = colour.STEPS, n: int | None = None, seeds: list[int] | None = None) -> dict[str, Any]:
    """Return the bits of held-out pictures with their near duplicates among those to fit, and without.

    n: fit to so many, all of which are near duplicates, or none; without it to all that are none, and to as many.
    """
    seeds = seeds or SEEDS
    grid, _ = colour.patches()
    runs: dict[str, list[float]] = {"fitted to": [], "with": [], "without": []}
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        held_out = held_out_patches(grid, generator)
        apart, others = grid[~sharing(held_out)], grid[~held_out]
        if n is not None:
            others = grid[sharing(held_out) & ~held_out]
            apart = apart[torch.randperm(len(apart), generator=generator)[:n]]
        keep = torch.randperm(len(others), generator=generator)[: len(apart)]
        runs["fitted to"].append(len(apart))
        for name, own in (("with", others[keep]), ("without", apart)):
            runs[name] += bits_of(own, [grid[held_out]], seed, steps)
        print(seed, {name: values[-1] for name, values in runs.items()}, flush=True)
    pairs = zip(runs["with"], runs["without"], strict=True)
    feigned = colour.interval([without - beside for beside, without in pairs])
    return {"seeds": seeds, "feigned": feigned, "runs": runs}


def burst() -> dict[str, Any]:
    """Return the same for models that are fitted to 100 pictures."""
    return duplicates(n=100)


def bursts() -> dict[str, Any]:
    """Return the same once more, for five other seeds."""
    return duplicates(n=100, seeds=OTHER_SEEDS)


PARTS = {"codes": codes, "few": few, "duplicates": duplicates, "burst": burst, "bursts": bursts}
SUMMARY = {
    "codes": [
        {
            "question": "How many bits does a byte of a photograph need, coded by its left neighbour alone?",
            "result": "{bits[left neighbour]:.3f} bits per dimension; PNG {bits[png]:.3f}",
            "error": "none: one code, 182 test patches of two photographs",
        }
    ],
    "few": [
        {
            "question": f"How many bits more does a test picture need if the model saw {n:,} pictures, not 3,500?",
            "result": f"{{above_all[{n}][mean]:+.3f}} bits per dimension",
            "error": f"{{above_all[{n}][half]:.3f}} (95%, paired, over seeds)",
        }
        for n in FEW
    ],
    "duplicates": [
        {
            "question": "How many bits do near duplicates of test pictures among those to fit feign?",
            "result": "{feigned[mean]:+.3f} bits per dimension",
            "error": "{feigned[half]:.3f} (95%, paired, over seeds)",
        }
    ],
}
SUMMARY["burst"] = [
    SUMMARY["duplicates"][0] | {"question": "And if all of 100 pictures to fit are near duplicates, or none?"}
]
SUMMARY["bursts"] = [SUMMARY["burst"][0] | {"question": "The same, with five other seeds?"}]
HEAD = {
    "question": "How many patches of photographs are too few, and what do near duplicates feign?",
    "rivals": "all 3,500 pictures; as many pictures without those that overlap",
    "tuning": "none: the learning rate that measure_colour chose for the discretised logistic",
    "evaluation": "bits per dimension of the bytes, an upper bound: all 182 test patches; 24 that are held out",
    "command": "python -m experiments.measure_pictures",
}


def main() -> None:
    for name in shared.chosen(PARTS, shared.read(RESULTS).get("parts", {}), __doc__):
        began = time.process_time()
        found = PARTS[name]()
        part = {
            "seeds": SEEDS,
            "cpu_minutes": round((time.process_time() - began) / 60, 2),
            "command": f"python -m experiments.measure_pictures {name}",
            "provenance": shared.provenance(),
            "summary": SUMMARY[name],
        }
        shared.store(RESULTS, part | found, "parts", name, **HEAD)


if __name__ == "__main__":
    main()
