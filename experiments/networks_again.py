"""Two rivals that were added to measure_networks after its first results: more time, and other channels."""

from typing import Any

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
