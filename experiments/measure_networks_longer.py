"""Measure convolutions against MLPs in longer runs: ``python -m experiments.measure_networks_longer [PART ...]``.

Writes book/results/networks_longer.json. Written before the first run:

Known. networks.json has runs of 12 to 18 CPU seconds. There an MLP in equal CPU time needs fewer bits than two
convolutions of 16 and 32 channels, by 0.81 +- 0.10 on the scene and by 0.57 +- 0.04 on the patches; on MNIST it is not
decided (convolutions 0.0009 +- 0.0005 ahead). One run of each on the scene, four times as long, puts the convolutions
ahead by 0.05. So the verdict of the short runs may turn with their length, and other channels were not tried there.

Question. In SECONDS = 45 CPU seconds a run, about four times MNIST's and three times the others', does a VAE with
convolutions reach a higher test ELBO than one with MLPs, (a) with as many parameters and as many pictures seen, (b) in
equal CPU time? Is the cause that the convolution looks at neighbours? Has the difference (b) changed with the length?

Measures. As in measure_networks: -ELBO of all test images in bits per dimension, the same draws of z for all arms;
beside it L_50 of 200 test images drawn at random.

Arms. "conv": channels (16, 32), (16, 32, 64) or (32, 64); on MNIST (8, 16) in the place of three layers, as 28 halves
only twice. "time": an MLP of (150,), (400,) or (200, 200) hidden units. "shuffled": conv's channels on images whose
places are permuted, by one permutation for each seed. "small": one hidden layer, as many parameters as conv, and as
many steps. Likelihoods, latent dimensions, batches, optimizer, schedule, start at the mean, looks at validation images
and weights of the best look: as in measure_networks.

Tuning. conv and time: each of three sizes with two rates, seed 100, a quarter of the seconds in a schedule of its own,
by the -ELBO of validation images; then one more rate for the best size: twice the best rate if that is the higher of
the two, else half of it. Seven tries for each arm. The first rate of a size is its best one in networks.json (of conv
(16, 32) for all channels), the second half of that, as longer schedules tend to want less. shuffled: conv's rate, half
and twice it. small: its best rate in networks.json, half and twice that. Steps in tuning: the seconds divided by the
cost of a step, median of three rounds in which the sizes take turns; in the runs of three seeds: the seconds divided by
the seconds of a step in all tries of the size that is chosen, which are longer.

Yes, for (a) and for (b), each data set by itself: fewer bits by more than 4.3 standard errors of the paired difference
over seeds 0, 1, 2. No: more bits by as much. Else it is not decided. The cause is in the neighbours, if shuffled needs
more bits than conv by more than 4.3 standard errors; all of the lead goes, if shuffled is not below small (a) or time
(b) by more than 4.3. The difference (b) has changed with the length, if the difference to that of networks.json (on
MNIST: of "time again"), paired by seed, is more than 4.3 of its standard errors.

Changed when the tuning on the scene was known, no test image, and nothing of the other sets, for time: on the patches
and on MNIST each size of conv and time is tried with its first rate alone, and the best size with half of that as well.
Four tries for each arm.

Order: conv and time on the scene, the patches, MNIST; then shuffled; then small. Where time runs out, what is missing
is said here and in the chapter.

Not run, for time: seeds 1 (time) and 2 (both) on the patches, MNIST, shuffled, small.

With OMP_NUM_THREADS=1 what is stored takes about 13 minutes of CPU time, all of it about 35.
"""

import time
from typing import Any

import torch

from experiments import networks, shared
from experiments.networks import SEEDS, TUNING_SEED, Images, Sizes, bits, build, parameters, places_for, train
from experiments.networks_leads import differences, summary
from vaelib.evaluation import bits_per_dimension, log_evidence

RESULTS = shared.results("networks_longer")
SHORT = shared.results("networks")
SETS = ("scene", "patches", "mnist")
SECONDS = 45.0
SAMPLES = 50
STAGES = (("conv", "time"), ("shuffled",), ("small",))
CHANNELS: list[Sizes] = [("channels", 16, 32), ("channels", 16, 32, 64), ("channels", 32, 64)]
CHANNELS_OF_28: list[Sizes] = [("channels", 16, 32), ("channels", 8, 16), ("channels", 32, 64)]
HIDDEN: list[Sizes] = [(150,), (400,), (200, 200)]
PARTS = tuple(
    part
    for arms in STAGES
    for name in SETS
    for part in (
        *((f"cost {name}",) if "conv" in arms else ()),
        *(f"tuning {name} {arm}" for arm in arms),
        *(f"{name} {arm} {seed}" for seed in SEEDS for arm in arms),
    )
)
HEAD = {
    "question": "In 45 CPU seconds a run, does a VAE with convolutions reach fewer bits per dimension of test images "
    "than one with MLPs, at equal parameters and pictures, and in equal CPU time? Is the cause that it looks at "
    "neighbours? Has the difference changed from the shorter runs of networks.json?",
    "rivals": "the best of three MLPs in as much CPU time; an MLP with as many parameters and pictures; the same "
    "convolutions on images whose places are permuted",
    "tuning": "convolutions and MLPs: three sizes, two rates each (on the scene) or one, and one more for the best, "
    "with seed 100 and a quarter of the time, by the -ELBO of validation images; shuffled and small: three rates; all "
    "tries are stored",
    "evaluation": "-ELBO of all test images in bits per dimension, the same draws of z for all; L_50 of 200 of them",
    "yes": "fewer by more than 4.3 standard errors of the paired difference over three seeds",
}
COMMAND = "python -m experiments.measure_networks_longer"


def small(images: Images, sizes: Sizes) -> Sizes:
    """Return the width with which an MLP comes nearest to the parameters of some convolutions."""
    wanted = parameters(build(images, sizes, 0))
    one, two = (parameters(build(images, (width,), 0)) for width in (1, 2))
    return (max(1, round(1 + (wanted - one) / (two - one))),)


def tries_of(images: Images, arm: str, parts: dict[str, Any]) -> list[tuple[Sizes, float]]:
    """Return the sizes and rates that the plan gives an arm to begin with."""
    known = shared.read(SHORT)["parts"][f"tuning {images.name}"]["arms"]
    if arm in ("shuffled", "small"):
        conv = parts[f"tuning {images.name} conv"]
        sizes: Sizes = tuple(conv["sizes"])
        rate = conv["rate"] if arm == "shuffled" else known["small"]["rate"]
        return [(sizes if arm == "shuffled" else small(images, sizes), factor * rate) for factor in (1, 0.5, 2)]
    found: list[tuple[Sizes, float]] = []
    for sizes in HIDDEN if arm == "time" else CHANNELS_OF_28 if images.shape[-1] == 28 else CHANNELS:
        size = str(sizes if arm == "time" else None)
        of_rates = known["conv" if arm == "conv" else "wide" if len(sizes or ()) == 1 else "deep"]["tried"][size]
        rate = float(min(of_rates, key=of_rates.__getitem__))
        found += [(sizes, rate), (sizes, rate / 2)] if images.name == "scene" else [(sizes, rate)]
    return found


def tune(images: Images, arm: str, parts: dict[str, Any]) -> dict[str, Any]:
    """Return the validation bits of each size and rate of an arm, the best of them, and what its steps cost."""
    costs, ahead = parts[f"cost {images.name}"]["milliseconds"], tries_of(images, arm, parts)
    conv = parts.get(f"tuning {images.name} conv", {})
    tried: dict[tuple[Sizes, float], dict[str, float]] = {}
    planned, places = len(ahead), places_for(arm, images, TUNING_SEED)
    while ahead:
        sizes, rate = ahead.pop(0)
        each = conv["milliseconds"] if arm == "small" else costs[str(sizes)]  # small: as many steps as conv
        tried[sizes, rate] = train(images, sizes, rate, round(250 * SECONDS / each), TUNING_SEED, places)[1]
        print(images.name, arm, sizes, rate, tried[sizes, rate], flush=True)
        if not ahead and len(tried) == planned and arm in STAGES[0]:
            sizes, rate = min(tried, key=lambda key: tried[key]["validation"])
            ahead = [(sizes, 2 * rate if (sizes, rate / 2) in tried else rate / 2)]
    sizes, rate = min(tried, key=lambda key: tried[key]["validation"])
    record: dict[str, dict[str, float]] = {}
    for (size, each), said in sorted(tried.items(), key=lambda item: item[0][1]):
        record.setdefault(str(size), {})[f"{each:g}"] = said["validation"]
    runs = [said for (size, _), said in tried.items() if size == sizes]
    cost = 1000 * sum(run["seconds"] for run in runs) / sum(run["steps"] for run in runs)
    return {"tried": record, "sizes": list(sizes or ()), "rate": rate, "milliseconds": round(cost, 3)}


def measure(images: Images, arm: str, seed: int, parts: dict[str, Any]) -> dict[str, Any]:
    """Train and test one arm with one seed: as many steps as fit into the seconds, and conv's for small."""
    tuned = parts[f"tuning {images.name} {arm}"]
    timed = parts[f"tuning {images.name} conv"] if arm == "small" else tuned
    places, sizes = places_for(arm, images, seed), tuple(tuned["sizes"])
    model, said = train(images, sizes, tuned["rate"], round(1000 * SECONDS / timed["milliseconds"]), seed, places)
    few = torch.randperm(len(images.test), generator=torch.Generator().manual_seed(0))[:200]
    evidence = log_evidence(model, networks.shuffle(images.test[few], places), SAMPLES).mean().item()
    found = said | {
        "parameters": parameters(model),
        "test": round(bits(model, images.test, places).mean().item(), 4),
        "L_50": round(bits_per_dimension(model, evidence, levels=2 if images.binary else None), 4),
    }
    print(images.name, arm, seed, found, flush=True)
    return found


def main() -> None:
    loaded: dict[str, Images] = {}
    for part in shared.chosen(PARTS, shared.read(RESULTS).get("parts", {}), __doc__):
        name = next(each for each in SETS if each in part)
        images = loaded[name] = loaded.get(name) or Images(name)
        parts, began = shared.read(RESULTS).get("parts", {}), time.process_time()
        found: dict[str, Any]
        if part.startswith("cost"):
            sizes = {"conv": CHANNELS_OF_28 if images.shape[-1] == 28 else CHANNELS, "time": HIDDEN}
            found = {"milliseconds": networks.cost(images, sizes)}
        elif part.startswith("tuning"):
            found = tune(images, part.split()[2], parts)
        else:
            _, arm, seed = part.split()
            found = {"seed": int(seed)} | measure(images, arm, int(seed), parts)
        found |= {"cpu_minutes": round((time.process_time() - began) / 60, 2), "command": f'{COMMAND} "{part}"'}
        shared.store(RESULTS, found | {"provenance": shared.provenance()}, "parts", part, **HEAD)
        record = shared.read(RESULTS)
        record |= {"command": COMMAND, "seeds": list(SEEDS)}
        record["cpu_minutes"] = round(sum(each["cpu_minutes"] for each in record["parts"].values()), 1)
        record["differences"] = differences(SETS, record["parts"], shared.read(SHORT))
        shared.write(RESULTS, record | {"summary": summary(record["differences"])})


if __name__ == "__main__":
    main()
