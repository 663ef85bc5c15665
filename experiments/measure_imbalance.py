"""Measure whether a CVAE cures class imbalance (chapter 11): ``python -m experiments.measure_imbalance [PART ...]``.

Question: 20 or 100 eights are left among 9,000 other digits. Do eights drawn by a CVAE that saw the same images teach
a classifier more about eights than plain techniques do, and if they do harm, by which of their faults?

Measure: the break-even point (recall equals precision), which does not depend on how readily a classifier says "eight";
recall, precision and accuracy beside it. All on the 10,000 test images, five seeds, differences paired by seed.

Rivals: raw data; a raised logit, which trains nothing; the eights drawn as often as another digit; the eights weighted
in the loss; shifted copies of the eights. The CVAE is tried on the cut data as they are, and on data in which the
eights are repeated to the number of another digit.

Yes: a break-even point above that of raw data and of shifted copies by more than 2.8 standard errors. No: below by as
much. Else: not decided, with the interval.

Interventions on the cause, each of which changes one thing: drawings that are not eights are taken out ("kept", by a
classifier that saw all eights); that an image was drawn no longer tells its class ("every digit drawn": half of every
other digit is drawn too); the generator knows eights ("all eights seen", a CVAE that was trained on all of them).

Tuning, the same for both that have a setting: three values each, by the break-even point on 10,000 training images that
are in no other role, with another seed. All other settings were fixed before, the same for all.

Writes book/results/imbalance.json part by part: tune, then one part for each share and seed, which take about 1.5
minutes each with OMP_NUM_THREADS=1.
"""

import base64
import inspect
import io
import math
import time
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from experiments import shared
from vaelib import data
from vaelib.cvae import CVAE
from vaelib.networks import mlp
from vaelib.training import fit

RESULTS = shared.results("imbalance")
RARE = 8
SHARES = [0.02, 0.10]
SEEDS = [0, 1, 2, 3, 4]
TUNING: dict[str, Any] = {"seed": 5, "share": 0.02, "shift": [1, 2, 3], "latent_dim": [5, 20, 50]}
SETTINGS: dict[str, Any] = {
    "images": 10_000,
    "classifier": {"hidden_dims": [128], "steps": 2000, "batch_size": 128, "learning_rate": 1e-3},
    "cvae": {"hidden_dims": [400], "epochs": 15, "batch_size": 128, "learning_rate": 3e-3},
}
REMEDIES = ("raw", "logit raised", "oversampled", "weighted", "shifted copies", "cvae", "cvae balanced")
INTERVENTIONS = ("kept", "every digit drawn", "all eights seen")
LEADS = [
    *((remedy, "raw") for remedy in ("oversampled", "weighted", "shifted copies", "cvae", "cvae balanced")),
    *((remedy, "cvae balanced") for remedy in INTERVENTIONS),
]
# For the index of experiments: a name, and whose lead over whom.
QUESTIONS = [
    *(
        (
            f"Do drawn eights raise the break-even point where {left} are left?",
            [
                ("CVAE", "cvae", "raw"),
                ("balanced", "cvae balanced", "raw"),
                ("shifted copies", "shifted copies", "raw"),
            ],
            share,
        )
        for left, share in zip((20, 100), SHARES, strict=True)
    ),
    (
        "What lifts a CVAE's drawings: a filter, drawing every digit, or having seen all eights?",
        [(name, name, "cvae balanced") for name in INTERVENTIONS],
        SHARES[0],
    ),
]


class Lesson(NamedTuple):
    """What a classifier learns from: images, labels, how often a row is drawn, how much a class weighs in the loss."""

    images: Tensor
    labels: Tensor
    drawn: Tensor
    weights: Tensor


def plain(images: Tensor, labels: Tensor) -> Lesson:
    """Return the lesson in which all images are drawn alike and all classes weigh the same."""
    return Lesson(images, labels, torch.ones(len(labels)), torch.ones(10))


def cut(train: data.ImageData, share: float) -> data.ImageData:
    """Return the data with only the first `share` of the rare class's images, two at the least."""
    rare = (train.labels == RARE).nonzero().squeeze(1)
    kept = torch.ones(len(train), dtype=torch.bool)
    kept[rare[max(2, round(share * len(rare))) :]] = False
    return train.subset(kept.nonzero().squeeze(1))


def scale(labels: Tensor) -> float:
    """Return how many times as common another class is on average as the rare one."""
    counts = torch.bincount(labels, minlength=10)
    return ((len(labels) - counts[RARE]) / 9 / counts[RARE]).item()


def missing(labels: Tensor) -> int:
    """Return how many images the rare class has fewer than another on average."""
    counts = torch.bincount(labels, minlength=10)
    return int((len(labels) - counts[RARE]) / 9 - counts[RARE])


def shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Return images ``(N, D)``, each moved by -most to most pixels in both directions; what comes in is black."""
    side = math.isqrt(images.shape[1])
    wide = pad(images.reshape(-1, side, side), (most, most, most, most))
    rows, columns = torch.randint(2 * most + 1, (2, len(images)), generator=generator).tolist()
    return torch.stack(
        [image[r : r + side, c : c + side] for image, r, c in zip(wide, rows, columns, strict=True)]
    ).flatten(1)


def topped_up(images: Tensor, labels: Tensor, new: Tensor) -> Lesson:
    """Return the lesson of the data together with new images of the rare class."""
    return plain(torch.cat([images, new]), torch.cat([labels, torch.full((len(new),), RARE)]))


def remedies(
    few: data.ImageData, cvaes: dict[str, CVAE], judge: torch.nn.Module, most: int, generator: torch.Generator
) -> dict[str, Lesson]:
    """Return the lesson of each remedy and intervention; each but the first gives the rare class a common weight.

    Args:
        few: the data that are left.
        cvaes: "cvae", "cvae balanced", "all eights seen": what draws new eights.
        judge: a classifier that saw all eights.
        most: shifts are of at most so many pixels.
        generator: draws all that is drawn.
    """
    images, labels = few.images.flatten(1), few.labels
    n, by = missing(labels), torch.ones(10)
    by[RARE] = scale(labels)
    wish = torch.full((n,), RARE)
    rare = images[labels == RARE]
    copies = rare.repeat(math.ceil(n / len(rare)), 1)[:n]
    lessons = {
        "raw": plain(images, labels),
        "oversampled": Lesson(images, labels, by[labels], torch.ones(10)),
        "weighted": Lesson(images, labels, torch.ones(len(labels)), by),
        "shifted copies": topped_up(images, labels, shifted(copies, most, generator)),
    }
    # Means are grey as real images are; a Bernoulli draw has a noise that would itself give the class away.
    for name, cvae in cvaes.items():
        lessons[name] = topped_up(images, labels, cvae.sample(wish, generator))
    balanced = cvaes["cvae balanced"]
    lessons["kept"] = topped_up(images, labels, recognised(balanced, judge, n, generator))
    # Half of the weight of every other digit goes to drawings, as many as of the rare one.
    others = torch.tensor([k for k in range(10) if k != RARE])
    both = topped_up(images, labels, balanced.sample(wish, generator))
    drawn_labels = others.repeat_interleave(n)
    half = torch.ones(len(both.labels))
    half[both.labels != RARE] = 0.5
    per_class = torch.bincount(labels, minlength=10)[drawn_labels] / n / 2
    lessons["every digit drawn"] = Lesson(
        torch.cat([both.images, balanced.sample(drawn_labels, generator)]),
        torch.cat([both.labels, drawn_labels]),
        torch.cat([half, per_class]),
        torch.ones(10),
    )
    return lessons


@torch.no_grad()
def recognised(cvae: CVAE, judge: torch.nn.Module, n: int, generator: torch.Generator, tries: int = 50) -> Tensor:
    """Return n drawings of the rare class that a classifier takes for it; fewer, but one, where it knows hardly any."""
    found: list[Tensor] = []
    for _ in range(tries):
        new = cvae.sample(torch.full((1000,), RARE), generator)
        found.append(new[judge(new).argmax(1) == RARE])
        if sum(map(len, found)) >= n:
            break
    return torch.cat(found)[:n] if sum(map(len, found)) else new[:1]


def learn(lesson: Lesson, settings: dict[str, Any], seed: int) -> torch.nn.Module:
    """Train a classifier with Adam for a number of steps that does not depend on the number of images."""
    generator = torch.Generator().manual_seed(seed)
    classifier = mlp((lesson.images.shape[1], *settings["hidden_dims"], 10), generator=generator)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=settings["learning_rate"], fused=True)
    steps, batch_size = settings["steps"], settings["batch_size"]
    rows = torch.multinomial(lesson.drawn, steps * batch_size, replacement=True, generator=generator)
    for batch in rows.split(batch_size):
        loss = cross_entropy(classifier(lesson.images[batch]), lesson.labels[batch], weight=lesson.weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return classifier


@torch.no_grad()
def scores(classifier: torch.nn.Module, test: data.ImageData, raised: float = 0.0) -> dict[str, float]:
    """Return the rare class's recall, precision and break-even point, and the accuracy over all classes.

    At the break-even point, as many images are called rare as are rare, those with the largest lead of its logit over
    the best of the others: recall and precision are then the same, however willingly the classifier makes the call.
    `raised` nats are added to the logit of the rare class first.
    """
    logits = classifier(test.images.flatten(1)).clone()
    logits[:, RARE] += raised
    guess = logits.argmax(1)
    rare, called = test.labels == RARE, guess == RARE
    hits = (rare & called).sum().item()
    lead = logits[:, RARE] - logits.index_fill(1, torch.tensor([RARE]), -torch.inf).max(1).values
    first = lead.topk(int(rare.sum())).indices
    return {
        "recall": hits / rare.sum().item(),
        # Nothing called an eight: no call was right.
        "precision": hits / max(1, called.sum().item()),
        "break_even": rare[first].double().mean().item(),
        "accuracy": (guess == test.labels).double().mean().item(),
    }


def generator_of(images: Tensor, labels: Tensor, settings: dict[str, Any], latent_dim: int, seed: int) -> CVAE:
    """Train a CVAE on images and their classes."""
    size = settings["cvae"]
    training = {key: size[key] for key in ("epochs", "batch_size", "learning_rate")}
    cvae = CVAE(images.shape[1], 10, size["hidden_dims"], latent_dim, seed=seed)
    fit(cvae, images, y=labels, seed=seed, device="cpu", progress=False, **training)
    return cvae


def repeated(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the data with the rare images repeated until they are as many as those of another class."""
    times = max(0, round(scale(labels)) - 1)
    rare = images[labels == RARE]
    return torch.cat([images, rare.repeat(times, 1)]), torch.cat([labels, torch.full((times * len(rare),), RARE)])


def trial(
    train: data.ImageData,
    test: data.ImageData,
    share: float,
    settings: dict[str, Any],
    tuned: dict[str, int],
    judge: torch.nn.Module,
    oracle: CVAE,
    seed: int,
) -> tuple[dict[str, dict[str, float]], dict[str, CVAE]]:
    """Cut the rare class, train the CVAEs and a classifier for each lesson; return their scores and the CVAEs."""
    few = cut(train, share)
    images, labels = few.images.flatten(1), few.labels
    cvaes = {
        "cvae": generator_of(images, labels, settings, tuned["latent_dim"], seed),
        "cvae balanced": generator_of(*repeated(images, labels), settings, tuned["latent_dim"], seed),
        "all eights seen": oracle,
    }
    lessons = remedies(few, cvaes, judge, tuned["shift"], torch.Generator().manual_seed(seed))
    found = {}
    for name, lesson in lessons.items():
        classifier = learn(lesson, settings["classifier"], seed)
        found[name] = scores(classifier, test)
        if name == "raw":
            found["logit raised"] = scores(classifier, test, math.log(scale(labels)))
    return found, cvaes


@torch.no_grad()
def judged(cvae: CVAE, judge: torch.nn.Module, seed: int) -> list[float]:
    """Return the shares of 1,000 eights of a CVAE that a classifier trained on all eights takes for each digit."""
    samples = cvae.sample(torch.full((1000,), RARE), torch.Generator().manual_seed(seed))
    return (torch.bincount(judge(samples).argmax(1), minlength=10).double() / len(samples)).tolist()


def strip(cvae: CVAE, n: int = 10) -> str:
    """Return a row of eights drawn from a CVAE as a PNG file in base64."""
    samples = cvae.sample(torch.full((n,), RARE), torch.Generator().manual_seed(0))
    file = io.BytesIO()
    plt.imsave(file, torch.cat([*samples.reshape(n, 28, 28)], 1), cmap="gray", vmin=0, vmax=1, format="png")
    return base64.b64encode(file.getvalue()).decode()


def drawn_for(everything: data.ImageData, seed: int) -> tuple[data.ImageData, data.ImageData]:
    """Return the training images of a seed, and 10,000 others to choose with."""
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(seed))
    n = SETTINGS["images"]
    return everything.subset(order[:n]), everything.subset(order[n : n + 10_000])


def tune(everything: data.ImageData) -> dict[str, Any]:
    """Choose the shift and the number of latent dimensions, three values each, by the break-even point."""
    seed = TUNING["seed"]
    train, validation = drawn_for(everything, seed)
    few = cut(train, TUNING["share"])
    images, labels = few.images.flatten(1), few.labels
    wish, rare = torch.full((missing(labels),), RARE), images[labels == RARE]
    copies = rare.repeat(math.ceil(len(wish) / len(rare)), 1)[: len(wish)]
    new: dict[tuple[str, int], Tensor] = {}
    for most in TUNING["shift"]:
        new["shift", most] = shifted(copies, most, torch.Generator().manual_seed(seed))
    for latent_dim in TUNING["latent_dim"]:
        cvae = generator_of(*repeated(images, labels), SETTINGS, latent_dim, seed)
        new["latent_dim", latent_dim] = cvae.sample(wish, torch.Generator().manual_seed(seed))
    tried: dict[str, dict[str, float]] = {"shift": {}, "latent_dim": {}}
    for (name, value), more in new.items():
        classifier = learn(topped_up(images, labels, more), SETTINGS["classifier"], seed)
        tried[name][str(value)] = round(scores(classifier, validation)["break_even"], 4)
    print(tried, flush=True)
    chosen = {name: int(max(by_value, key=lambda value: by_value[value])) for name, by_value in tried.items()}
    return {"break_even_on_validation": tried, "chosen": chosen}


def measure(
    everything: data.ImageData, test: data.ImageData, share: float, seed: int, tuned: dict[str, int]
) -> dict[str, Any]:
    """Return all that is measured with one share and one seed."""
    train, _ = drawn_for(everything, seed)
    images, labels = train.images.flatten(1), train.labels
    judge = learn(plain(images, labels), SETTINGS["classifier"], seed)
    oracle = generator_of(images, labels, SETTINGS, tuned["latent_dim"], seed)
    found, cvaes = trial(train, test, share, SETTINGS, tuned, judge, oracle, seed)
    part: dict[str, Any] = {
        "rare_images": int((cut(train, share).labels == RARE).sum()),
        "nothing_removed": rounded(scores(judge, test)),
        "scores": {name: rounded(by_measure) for name, by_measure in found.items()},
        "taken_for": {name: judged(cvae, judge, seed) for name, cvae in cvaes.items()},
    }
    if seed == SEEDS[0]:
        part["png"] = {name: strip(cvae) for name, cvae in cvaes.items()}
    for name, by_measure in found.items():
        print(f"{share} seed {seed}: {name:18}", rounded(by_measure), flush=True)
    return part


def combine() -> None:
    """Store the differences that the chapter speaks of, over the seeds that are there, for the index of experiments."""
    stored = shared.read(RESULTS)
    parts = stored["parts"]
    leads: dict[str, Any] = {}
    for share in map(str, SHARES):
        there = [part for name, part in parts.items() if name.startswith(f"{share} seed")]
        if len(there) < 3:
            continue
        for ours, theirs in LEADS:
            values = [part["scores"][ours]["break_even"] - part["scores"][theirs]["break_even"] for part in there]
            numbers = 100 * torch.tensor(values, dtype=torch.double)
            found = {"mean": numbers.mean().item(), "se": numbers.std().item() / math.sqrt(len(values))}
            leads.setdefault(f"{ours} over {theirs}", {})[f"share {share}"] = {k: round(v, 2) for k, v in found.items()}
        seeds = [int(name.split()[-1]) for name in parts if name.startswith(f"{share} seed")]
        leads.setdefault("seeds", seeds)
    if not leads:
        return
    minutes = sum(part["cpu_minutes"] for part in parts.values())
    summary = [
        {
            "question": question,
            "result": ", ".join(f"{name} {{{a} over {b}[share {share}][mean]:+.1f}}" for name, a, b in rows)
            + " points",
            "error": ", ".join(f"{{{a} over {b}[share {share}][se]:.1f}}" for _, a, b in rows)
            + " (paired, over seeds)",
        }
        for question, rows, share in QUESTIONS
        if f"share {share}" in leads[f"{rows[0][1]} over {rows[0][2]}"]
    ]
    leads |= {
        "summary": summary,
        "cpu_minutes": round(minutes, 1),
        "command": "python -m experiments.measure_imbalance",
    }
    shared.write(RESULTS, stored | {"combined": leads})


def rounded(by_measure: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in by_measure.items()}


def main() -> None:
    stored = shared.read(RESULTS).get("parts", {})
    trials = [f"{share} seed {seed}" for share in SHARES for seed in SEEDS]
    names = list(shared.chosen(["tune", *trials], stored, __doc__))
    everything, test = data.load("mnist"), data.load("mnist", "test")
    for name in names:
        start = time.process_time()
        if name == "tune":
            part = tune(everything)
        else:
            share, _, seed = name.split()
            tuned = shared.read(RESULTS)["parts"]["tune"]["chosen"]
            part = measure(everything, test, float(share), int(seed), tuned)
        part |= {
            "command": f'python -m experiments.measure_imbalance "{name}"',
            "cpu_minutes": round((time.process_time() - start) / 60, 1),
            **shared.provenance(),
        }
        # The docstring above, as it stood when the part was run.
        shared.store(RESULTS, part, "parts", name, announced=inspect.cleandoc(__doc__ or ""))
    combine()


if __name__ == "__main__":
    main()
