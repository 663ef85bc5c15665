"""What the arms of measure_networks_longer differ by: paired by seed, and beside the shorter runs."""

import itertools
import statistics
from typing import Any

from experiments.networks import SEEDS

PAIRS = tuple(itertools.combinations(("conv", "time", "shuffled", "small"), 2))


def spread(values: list[float]) -> dict[str, float]:
    error = statistics.stdev(values) / len(values) ** 0.5
    return {"mean": round(statistics.mean(values), 4), "se": round(error, 4), "seeds": len(values)}


def differences(sets: tuple[str, ...], parts: dict[str, Any], short: dict[str, Any]) -> dict[str, Any]:
    """Return for each data set the paired differences of arms of which all seeds are stored; negative: the first wins.

    "change": how the difference of conv and time has changed from that of the shorter runs. "seconds": what each arm
    took, as a part of conv's time.
    """
    found: dict[str, Any] = {}
    for name in sets:
        arms = {
            arm: runs
            for arm in ("conv", "time", "shuffled", "small")
            if len(runs := [parts[key] for seed in SEEDS if (key := f"{name} {arm} {seed}") in parts]) == len(SEEDS)
        }
        pairs = [(one, other) for one, other in PAIRS if one in arms and other in arms]
        if not pairs:
            continue
        here: dict[str, Any] = {}
        for key in ("test", "L_50"):
            values = {
                f"{one} - {other}": [a[key] - b[key] for a, b in zip(arms[one], arms[other], strict=True)]
                for one, other in pairs
            }
            here |= {key: {pair: spread(each) for pair, each in values.items()}}
            if key == "test" and "conv - time" in values and name in short.get("differences", {}):
                before = short_leads(name, short)
                here["change"] = spread([a - b for a, b in zip(values["conv - time"], before, strict=True)])
        seconds = {arm: sum(run["seconds"] for run in runs) for arm, runs in arms.items()}
        here["seconds"] = {arm: round(each / max(0.1, seconds["conv"]), 3) for arm, each in seconds.items()}
        found[name] = here
    return found


def short_leads(name: str, short: dict[str, Any]) -> list[float]:
    """Return the differences of conv and the rival in time in the shorter runs, with more time for it where stored."""
    runs = [short["parts"][f"{name} {seed}"]["runs"] for seed in SEEDS]
    if once_more := short["parts"].get("time again", {}).get("sets", {}).get(name):
        rivals = once_more["runs"]
    else:
        rivals = [run[short["differences"][name]["time"]] for run in runs]
    return [run["conv"]["test"] - rival["test"] for run, rival in zip(runs, rivals, strict=True)]


def summary(found: dict[str, Any]) -> list[dict[str, str]]:
    """Return an entry of the index for each data set of which conv and its rival in time are stored."""
    said = {"conv - time": "in equal CPU time", "conv - small": "at equal parameters", "conv - shuffled": "on shuffled"}
    entries = []
    for name, of in (("scene", "the scene"), ("patches", "patches of photographs"), ("mnist", "MNIST")):
        pairs = [pair for pair in said if pair in found.get(name, {}).get("test", {})]
        if pairs:
            places = [(said[pair], f"differences[{name}][test][{pair}]") for pair in pairs]
            entries.append(
                {
                    "question": f"Has a convolutional VAE fewer bits per dimension than rivals in 45 s, {of}?",
                    "result": ", ".join(f"{label} {{{place}[mean]:+.3f}}" for label, place in places),
                    "error": ", ".join(f"{{{place}[se]:.3f}}" for _, place in places) + " (paired, over seeds)",
                }
            )
    return entries
