"""Near duplicates, few pictures, likelihoods: questions asked of the answers in measure_pictures and measure_colour.

Written by a second reader when all parts of measure_pictures had been seen, and before the first run of this script.
The model, its measure and its learning rate are those of measure_pictures.

Part "neighbours". 100 pictures that share pixels with held-out ones gave these fewer bits than 100 that don't. Is it
the shared pixels, or that the pictures show the same part of the photograph? Rival: 100 patches that share no pixel
with a held-out one and lie at most 24 pixels beyond those that do; the same held-out patches, OTHER_SEEDS of
measure_pictures. "Pixels in common matter": the 95% interval of these bits above those with near duplicates lies
above zero. "The same part matters": that of those of 100 patches from elsewhere above these does.
Part "fewer steps". Are 100 too few, or 660 steps too many for them? 165, 330 and 660 steps, each with its complete
schedule, the number chosen by the bits of validation pictures; seeds, patches and measure of the part "few". The
verdict "too few" stands where the interval of the difference from all 3,500 still lies above zero.
Part "another photograph", added later, when the models of one seed (0, not used here) had been seen on it. Does the
order of measure_colour's likelihoods hold for a photograph that none of it was fitted to? The models are fitted and
tuned as there; measured on all 288 squares of 32 pixels of the portrait that comes with Matplotlib (public domain),
and on the 182 test patches by photograph; three seeds, OTHERS. "The logistic needs fewer": the 95% interval lies
above zero.

With OMP_NUM_THREADS=1 it takes about five minutes.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from torch.nn import functional as F

from experiments import measure_colour as colour
from experiments import measure_pictures as pictures
from experiments import shared
from vaelib import data

RESULTS = shared.results("neighbours")
OTHERS = [20, 21, 22]
STEPS = [165, 330, 660]
FEW = 100


def stored(part: str, *keys: str) -> list[float]:
    """Return the bits that measure_pictures has stored."""
    found = shared.read(pictures.RESULTS)["parts"][part]["runs"]
    for key in keys:
        found = found[key]
    return found


def neighbours(steps: int = colour.STEPS, n: int = FEW) -> dict[str, Any]:
    """Return the bits of held-out pictures where those to fit lie beside them, and share no pixel with them."""
    grid, _ = colour.patches()
    bits = []
    for seed in pictures.OTHER_SEEDS:
        generator = torch.Generator().manual_seed(seed)
        held_out = pictures.held_out_patches(grid, generator)
        near = F.max_pool2d(held_out.float()[:, None], 13, 1, 6)[:, 0] > 0  # six steps of 8 pixels to each side
        beside = grid[near & ~pictures.sharing(held_out)]
        own = beside[torch.randperm(len(beside), generator=generator)[:n]]
        bits += pictures.bits_of(own, [grid[held_out]], seed, steps)
        print(seed, len(beside), bits[-1], flush=True)
    return {"seeds": pictures.OTHER_SEEDS, "bits": bits} | compared(bits)


def compared(bits: list[float]) -> dict[str, Any]:
    """Return intervals: of bits above those with near duplicates, and of those from elsewhere above bits."""
    copies, elsewhere = stored("bursts", "with"), stored("bursts", "without")
    return {
        "above copies": colour.interval([own - other for own, other in zip(bits, copies, strict=True)]),
        "elsewhere above": colour.interval([other - own for own, other in zip(bits, elsewhere, strict=True)]),
    }


def fewer_steps(all_steps: list[int] | None = None, n: int = FEW) -> dict[str, Any]:
    """Return the bits of test pictures under models of 100 pictures, with the steps that validation pictures choose."""
    grid, validation = colour.patches()
    fitted, test = grid.reshape(-1, *colour.SHAPE), data.load("patches", "test").images
    runs: dict[str, list[Any]] = {"chosen": [], "test": [], "validation bits": [], "test bits": []}
    each_of = all_steps or STEPS
    for seed in pictures.SEEDS:
        own = fitted[torch.randperm(len(fitted), generator=torch.Generator().manual_seed(seed))[:n]]
        rows = {steps: pictures.bits_of(own, [validation, test], seed, steps) for steps in each_of}
        best = min(rows, key=lambda steps: rows[steps][0])
        runs["chosen"].append(best)
        runs["test"].append(rows[best][1])
        runs["validation bits"].append([rows[steps][0] for steps in each_of])
        runs["test bits"].append([rows[steps][1] for steps in each_of])
        print(seed, rows, flush=True)
    pairs = zip(runs["test"], stored("few", "3500", "test"), strict=True)
    return {"seeds": pictures.SEEDS, "runs": runs, "above_all": colour.interval([a - b for a, b in pairs])}


def portrait() -> torch.Tensor:
    """Return the squares of another photograph: ``(288, 3, 32, 32)``."""
    with get_sample_data("grace_hopper.jpg") as file:  # type: ignore[union-attr]
        picture = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)
    return picture.unfold(1, 32, 32).unfold(2, 32, 32).permute(1, 2, 0, 3, 4).reshape(-1, *colour.SHAPE) / 255


def another_photograph(steps: int = colour.STEPS, seeds: list[int] | None = None) -> dict[str, Any]:
    """Return the bits of patches by photograph, of which the third was not fitted to, for three likelihoods."""
    fitted, test = colour.patches()[0].reshape(-1, *colour.SHAPE), data.load("patches", "test")
    shown = {name: test.images[test.labels == k] for k, name in enumerate(("temple", "flower"))}
    shown["portrait"] = portrait()
    tuning = shared.read(colour.RESULTS)["parts"]["patches"]["tuning"]
    arms = [arm for arm in colour.ARMS if arm != "Gaussian, sigma 1"]
    bits: dict[str, Any] = {name: {arm: [] for arm in arms} for name in shown}
    for seed in seeds or OTHERS:
        for arm in arms:
            model = colour.train(arm, fitted, tuning[arm]["rate"], seed, steps)
            for name, images in shown.items():
                bits[name][arm].append(colour.bits(model, images)["bits"])
            print(seed, arm, {name: bits[name][arm][-1] for name in shown}, flush=True)
    above = {
        name: {
            arm: colour.interval([a - b for a, b in zip(found[arm], found[colour.LOGISTIC], strict=True)])
            for arm in arms
            if arm != colour.LOGISTIC
        }
        for name, found in bits.items()
    }
    return {"seeds": seeds or OTHERS, "bits": bits, "above_logistic": above}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {"neighbours": neighbours, "fewer steps": fewer_steps}
PARTS["another photograph"] = another_photograph
SUMMARY = {
    "neighbours": [
        {
            "question": "How many bits more where 100 pictures to fit lie beside the test pictures than where they "
            "share pixels with them?",
            "result": "{above copies[mean]:+.3f} bits per dimension; from elsewhere {elsewhere above[mean]:+.3f} more",
            "error": "{above copies[half]:.3f} and {elsewhere above[half]:.3f} (95%, paired, over seeds)",
        }
    ],
    "fewer steps": [
        {
            "question": "How many bits more with 100 pictures, and steps that suit them, than with 3,500?",
            "result": "{above_all[mean]:+.3f} bits per dimension",
            "error": "{above_all[half]:.3f} (95%, paired, over seeds)",
        }
    ],
}
SUMMARY["another photograph"] = [
    {
        "question": f"How many bits more than the discretised logistic does {arm} need on a photograph not fitted to?",
        "result": f"{{above_logistic[portrait][{arm}][mean]:+.3f}} bits per dimension",
        "error": f"{{above_logistic[portrait][{arm}][half]:.3f}} (95%, paired, over seeds)",
    }
    for arm in ("Gaussian, learned", "Gaussian's mass, learned")
]
HEAD = {
    "question": "Is it shared pixels, or the same part of a photograph? And are 100 pictures too few with fewer steps?",
    "rivals": "100 patches beside the held-out ones that share no pixel with them; 165 and 330 steps in place of 660",
    "tuning": "the learning rate of measure_colour; for fewer steps their number, by the bits of validation pictures",
    "evaluation": "bits per dimension of the bytes, an upper bound: 24 held-out patches; all 182 test patches",
    "command": "python -m experiments.measure_neighbours",
}


def main() -> None:
    for name in shared.chosen(PARTS, shared.read(RESULTS).get("parts", {}), __doc__):
        began = time.process_time()
        found = PARTS[name]()
        part = {
            "cpu_minutes": round((time.process_time() - began) / 60, 2),
            "command": f"python -m experiments.measure_neighbours '{name}'",
            "provenance": shared.provenance(),
            "summary": SUMMARY[name],
        }
        shared.store(RESULTS, part | found, "parts", name, **HEAD)


if __name__ == "__main__":
    main()
