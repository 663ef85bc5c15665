"""Measure what convolutions gain over multilayer perceptrons: ``python -m experiments.measure_networks [PART ...]``.

Writes book/results/networks.json. Written before the first run:

Question. Does a VAE with two strided convolutions (16 and 32 channels) reach a higher test ELBO than one with MLPs, on
MNIST (Bernoulli pixels, K = 20), the scene (discretised logistic, K = 16) and patches of photographs (the same, K =
64), (a) with as many parameters and as many pictures seen, (b) in as much CPU time, where the MLP may be wider, and
deeper? And is the cause that the convolution looks at neighbours?

Measures. -ELBO of all test images in bits per dimension (MNIST: nats as well): all three likelihoods are
probabilities of the pixels, so it is a bound on the bits of a code. The same draws of z for all arms. Beside it L_50 of
200 test images drawn at random, in bits, as the ELBO may fall short of the log evidence by more in one arm than in
another. MNIST: grey levels are taken as probabilities, training images drawn anew in each batch, others drawn once.

Arms. "conv". "small": one hidden layer, as many parameters as conv, and as many pictures. "wide": one hidden layer, of
150 or of 400 units, in conv's CPU time. "deep": two of 200 or of 400 in each network, in conv's CPU time. "shuffled":
conv on images whose places are permuted, all channels alike, by one permutation that is drawn anew for each seed: the
intervention on the cause. (An MLP learns from shuffled images as well as from others: a cell of the chapter shows it.)
CPU time: seconds per step, median of three rounds in which the arms take turns, on the machine of the run; an MLP
makes conv's steps times the ratio of the costs. Batches of 64 for all, Adam with betas 0.9 and 0.99, 10% of the steps
up and then down to zero, the decoder's last bias at the mean (of each pixel in an MLP, of each channel in conv).

Tuning. Each arm and each size: RATES by the -ELBO of validation images, with seed 100 and a quarter of the steps in a
schedule of its own; while the best rate is the first or the last, half or twice that is tried as well, twice at most.
For wide and deep the size is chosen by the same numbers, so that they get twice as many tries. Validation: 1,000
training images drawn at random; of patches those of the 80 columns of each photograph beside the test columns (x >=
320), while training takes those of columns below 320. In every run these images are looked at after each fifth of the
steps, and the weights of the best look are tested.

Yes, for (a) and for (b), each data set by itself: conv's bits are below small's (a), below those of the better of wide
and deep by their validation bits (b), by more than 4.3 standard errors of the paired difference over three seeds
(97.5% point of t with 2 degrees of freedom). No: above by as much. Else it is not decided. The cause is in the
neighbours, if shuffled is worse than conv by more than 4.3 standard errors; all of the lead goes, if shuffled is not
below small (a), or the better of wide and deep (b), by more than 4.3.
A standard error over test images, with seed 0, stands beside each.

Changed when the tuning of conv and of small on MNIST had been seen, and nothing else: 640, 440 and 440 steps in the
place of 800, 550 and 550, for time; and further rates are tried three times at most, since small's best was the last.
Changed when all of MNIST's tuning was known, no test image, and nothing of the other sets, for time: of wide and deep
only the one that is better in tuning is trained with the three seeds; the other sets start with rates up to 0.008.
Added when the tuning was known and before any test image was seen: "longer", four times the steps for conv and for the
better of wide and deep, at the same rates, seed 0. The difference of the two has changed with the length if it moves by
more than 4.3 times its standard deviation over the three seeds.
Added when seeds 0 of all and 1 of MNIST were known, where conv was first on MNIST and far behind in time on the others:
"time again": as a rival took less time than its steps had been counted for, it is trained for so many times more steps
as conv took more CPU time in the three runs, where that is above 1.05; (b) then goes by these runs. "other channels":
(16, 32, 64) and (32, 64) in a quarter of conv's time, each rate, by validation bits: a rival of conv's own kind. "mean
image", a calibration: the bits of test images without a code, by the mean of each pixel and the best of some scales.

Not run, for time: "other channels", and "longer" on MNIST and on the patches.

With OMP_NUM_THREADS=1 what is stored takes about 17 minutes of CPU time.
"""

import time
from typing import Any

import torch
from torch import Tensor

from experiments import networks, shared
from experiments.networks import RATES, SEEDS, TUNING_SEED, Images, better, bits, paired, steps_of, train
from experiments.networks_again import again, mean_image, other_channels
from vaelib.evaluation import bits_per_dimension, log_evidence

RESULTS = shared.results("networks")
SETS = ("mnist", "scene", "patches")
FURTHER = 3
ARMS = ("conv", "small", "wide", "deep", "shuffled")
SAMPLES = 50
T = 4.303
PARTS = (
    "cost",
    *(f"tuning {name}" for name in SETS),
    *(f"{name} {seed}" for seed in SEEDS for name in SETS),
    "time again",
    "other channels",
    "mean image",
    *(f"{name} longer" for name in SETS),
)


def tune(images: Images, arm: str, costs: dict[str, float]) -> dict[str, Any]:
    """Return the validation bits of each size and rate of an arm, and the best of them."""
    tried: dict[str, dict[float, float]] = {}
    places = networks.places_for(arm, images, TUNING_SEED)
    for sizes in networks.sizes_of(images)[arm]:
        found, ahead = tried.setdefault(str(sizes), {}), list(RATES[images.name])
        steps = steps_of(arm, sizes, images.name, costs) // 4
        while ahead:
            rate = ahead.pop(0)
            found[rate] = train(images, sizes, rate, steps, TUNING_SEED, places)[1]["validation"]
            best = min(found, key=found.__getitem__)
            if not ahead and len(found) < len(RATES[images.name]) + FURTHER and best in (min(found), max(found)):
                ahead = [best / 2 if best == min(found) else 2 * best]
    size, rate = min(((s, r) for s in tried for r in tried[s]), key=lambda each: tried[each[0]][each[1]])
    print(images.name, arm, tried, flush=True)
    record = {s: {f"{r:g}": value for r, value in sorted(found.items())} for s, found in tried.items()}
    chosen = next(list(each) if each else None for each in networks.sizes_of(images)[arm] if str(each) == size)
    return {"tried": record, "sizes": chosen, "rate": rate}


def measure(
    images: Images, seed: int, tuning: dict[str, Any], costs: dict[str, float], longer: bool = False
) -> dict[str, Any]:
    """Train and test arms with one seed, with standard errors over test images of their differences from conv."""
    few = torch.randperm(len(images.test), generator=torch.Generator().manual_seed(0))[:200]
    found: dict[str, Any] = {}
    of_images: dict[str, Tensor] = {}
    for arm in ("conv", better(tuning)) if longer else ("conv", "small", better(tuning), "shuffled"):
        sizes = tuple(tuning[arm]["sizes"]) if tuning[arm]["sizes"] else None
        places = networks.places_for(arm, images, seed)
        steps = steps_of(arm, sizes, images.name, costs) * (4 if longer else 1)
        model, said = train(images, sizes, tuning[arm]["rate"], steps, seed, places)
        of_images[arm] = bits(model, images.test, places)
        evidence = log_evidence(model, networks.shuffle(images.test[few], places), SAMPLES).mean().item()
        found[arm] = said | {
            "parameters": networks.parameters(model),
            "test": round(of_images[arm].mean().item(), 4),
            "L_50": round(bits_per_dimension(model, evidence, levels=2 if images.binary else None), 4),
            "fitting": round(bits(model, images.fitting[:1000], places).mean().item(), 4)
            if not images.binary
            else None,
            "error over images": round((of_images[arm] - of_images["conv"]).std().item() / len(images.test) ** 0.5, 5),
        }
        print(images.name, seed, arm, found[arm], flush=True)
    return found


def differences(parts: dict[str, Any]) -> dict[str, Any]:
    """Return for each data set the lead of conv on both rivals, what shuffling costs it, and what is left of the lead.

    Negative: the first of the two has fewer bits.
    """
    found: dict[str, Any] = {}
    for name in SETS:
        if f"{name} {SEEDS[1]}" in parts:
            rival = better(parts[f"tuning {name}"]["arms"])
            pairs = {"conv - small": ("conv", "small"), "conv - time": ("conv", rival)}
            pairs |= {f"shuffled - {arm}": ("shuffled", arm) for arm in ("conv", "small")}
            pairs["shuffled - time"] = ("shuffled", rival)
            found[name] = {"time": rival} | {pair: paired(parts, name, *arms) for pair, arms in pairs.items()}
            if once_more := parts.get("time again", {}).get("sets", {}).get(name):
                found[name]["conv - time again"] = once_more["conv - again"]
            if longer := parts.get(f"{name} longer"):
                found[name]["longer"] = round(longer["runs"]["conv"]["test"] - longer["runs"][rival]["test"], 4)
            found[name]["L_50"] = {pair: paired(parts, name, *arms, "L_50") for pair, arms in pairs.items()}
    return found


HEAD = {
    "question": "Does a VAE with convolutions reach fewer bits per dimension of test images than one with MLPs, at "
    "equal parameters and pictures, and in equal CPU time? Is the cause that it looks at neighbours?",
    "rivals": "MLP with as many parameters; MLPs with one and with two hidden layers, two sizes each, in conv's CPU "
    "time, the better in tuning; the same convolutions on images whose places are permuted",
    "tuning": "each arm and size: rates 0.001 (MNIST) or 0.002 and up with seed 100 and a quarter of the steps, by "
    "the -ELBO of validation images; further where the best is the first or the last; all tries are stored",
    "evaluation": "-ELBO of all test images in bits per dimension, the same draws of z for all; L_50 of 200 of them",
    "yes": "fewer by more than 4.3 standard errors of the paired difference over three seeds",
}
SUMMARY = [
    {
        "question": f"Has a convolutional VAE fewer bits per dimension than MLPs, {of}?",
        "result": f"at equal parameters {{differences[{name}][conv - small][mean]:+.3f}}, in equal CPU time "
        f"{{differences[{name}][conv - time][mean]:+.3f}}, the latter with shuffled pixels "
        f"{{differences[{name}][shuffled - time][mean]:+.3f}}",
        "error": f"{{differences[{name}][conv - small][se]:.3f}}, {{differences[{name}][conv - time][se]:.3f}}, "
        f"{{differences[{name}][shuffled - time][se]:.3f}} (paired, over seeds)",
    }
    for name, of in (("mnist", "MNIST"), ("scene", "the scene"), ("patches", "patches of photographs"))
]
COMMAND = "python -m experiments.measure_networks"


def part_of(name: str, loaded: dict[str, Images], parts: dict[str, Any]) -> dict[str, Any]:
    """Measure one part: tune on one data set, train and test with one seed, or one of the two that were added."""
    if name == "time again":
        return {"seeds": list(SEEDS), "sets": again(loaded, parts)}
    if name == "other channels":
        return {"sets": {each: other_channels(images) for each, images in loaded.items()}}
    if name == "mean image":
        return {"seed": TUNING_SEED, "sets": {each: mean_image(images) for each, images in loaded.items()}}
    images = next(loaded[each] for each in SETS if each in name)
    costs = parts["cost"]["milliseconds"][images.name]
    if name.startswith("tuning"):
        return {"arms": {arm: tune(images, arm, costs) for arm in ARMS}}
    longer = name.endswith("longer")
    seed = 0 if longer else int(name.rpartition(" ")[2])
    return {"seed": seed, "runs": measure(images, seed, parts[f"tuning {images.name}"]["arms"], costs, longer)}


def main() -> None:
    loaded: dict[str, Images] = {}
    for name in shared.chosen(PARTS, shared.read(RESULTS).get("parts", {}), __doc__):
        for each in (each for each in SETS if each in name or not any(one in name for one in SETS)):
            loaded[each] = loaded.get(each) or Images(each)
        began = time.process_time()
        part: dict[str, Any]
        if name == "cost":
            part = {
                "milliseconds": {each: networks.cost(loaded[each], networks.sizes_of(loaded[each])) for each in SETS}
            }
        else:
            part = part_of(name, loaded, shared.read(RESULTS)["parts"])
        part |= {"cpu_minutes": round((time.process_time() - began) / 60, 2), "command": f'{COMMAND} "{name}"'}
        shared.store(RESULTS, part | {"provenance": shared.provenance()}, "parts", name, **HEAD)
        parts = shared.read(RESULTS)["parts"]
        said = {
            "command": COMMAND,
            "seeds": list(SEEDS),
            "cpu_minutes": round(sum(each["cpu_minutes"] for each in parts.values()), 1),
            "differences": differences(parts),
        }
        said |= {"summary": SUMMARY} if {f"{each} {SEEDS[-1]}" for each in SETS} <= parts.keys() else {}
        shared.write(RESULTS, shared.read(RESULTS) | said)


if __name__ == "__main__":
    main()
