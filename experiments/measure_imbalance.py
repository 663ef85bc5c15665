"""Measure whether a CVAE cures class imbalance (chapter 11): ``python -m experiments.measure_imbalance``.

Writes book/results/imbalance.json. The digit, the shares, the sizes and the seeds below were fixed before the first
result was seen; the break-even point was added after it, to tell better knowledge from more willing calls. For each
seed, 20,000 training images of MNIST are drawn, and all but 1%, 5% or 10% of the eights are taken away. A classifier
learns from what is left, with the same number of steps for each remedy: raw data; the eights drawn as often as another
digit; the eights weighted as much in the loss; as many eights as another digit has, drawn from a CVAE that was trained
on the same images and no others. All 10,000 test images judge. About 9 minutes with OMP_NUM_THREADS=1.
"""

import base64
import io
import time
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from experiments import shared
from vaelib import data
from vaelib.cvae import CVAE
from vaelib.networks import mlp
from vaelib.training import fit

RESULTS = shared.results("imbalance")
RARE = 8
SHARES = [0.01, 0.05, 0.10]
SEEDS = [0, 1, 2, 3, 4]
SETTINGS: dict[str, Any] = {
    "images": 20_000,
    "classifier": {"hidden_dims": [128], "steps": 2000, "batch_size": 128, "learning_rate": 1e-3},
    "cvae": {"hidden_dims": [400], "latent_dim": 20, "epochs": 15, "batch_size": 128, "learning_rate": 3e-3},
}


class Lesson(NamedTuple):
    """What a classifier learns from: images, labels, how often a row is drawn, how much a class weighs in the loss."""

    images: Tensor
    labels: Tensor
    drawn: Tensor
    weights: Tensor


def cut(train: data.ImageData, share: float) -> data.ImageData:
    """Return the data with only the first `share` of the rare class's images, two at the least."""
    rare = (train.labels == RARE).nonzero().squeeze(1)
    kept = torch.ones(len(train), dtype=torch.bool)
    kept[rare[max(2, round(share * len(rare))) :]] = False
    return train.subset(kept.nonzero().squeeze(1))


def remedies(train: data.ImageData, cvae: CVAE, generator: torch.Generator) -> dict[str, Lesson]:
    """Return the lesson of each remedy; each but the first gives the rare class the weight of a common one."""
    images, labels = train.images.flatten(1), train.labels
    counts = torch.bincount(labels, minlength=10)
    common = (len(labels) - counts[RARE]) / 9
    scale = torch.ones(10)
    scale[RARE] = common / counts[RARE]
    missing = torch.full((int(common - counts[RARE]),), RARE)
    # A mean image is grey as the real ones are; a Bernoulli draw has a noise that would itself give the class away.
    means = cvae.sample(missing, generator)
    same, equal = torch.ones(len(labels)), torch.ones(10)
    return {
        "raw": Lesson(images, labels, same, equal),
        "oversampled": Lesson(images, labels, scale[labels], equal),
        "weighted": Lesson(images, labels, same, scale),
        "cvae": topped_up(images, labels, means),
        "cvae, pixels drawn": topped_up(images, labels, data.binarize(means, generator)),
    }


def topped_up(images: Tensor, labels: Tensor, new: Tensor) -> Lesson:
    """Return the lesson of the data together with new images of the rare class."""
    labels = torch.cat([labels, torch.full((len(new),), RARE)])
    return Lesson(torch.cat([images, new]), labels, torch.ones(len(labels)), torch.ones(10))


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
def scores(classifier: torch.nn.Module, test: data.ImageData) -> dict[str, float]:
    """Return the rare class's recall, precision and break-even point, and the accuracy over all classes.

    At the break-even point, as many images are called rare as are rare, those with the largest lead of its logit over
    the best of the others: recall and precision are then the same, however willingly the classifier makes the call.
    """
    logits = classifier(test.images.flatten(1))
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


def trial(
    train: data.ImageData, test: data.ImageData, share: float, settings: dict[str, Any], seed: int
) -> tuple[dict[str, dict[str, float]], CVAE]:
    """Cut the rare class, train the CVAE and a classifier for each remedy; return their scores and the CVAE."""
    few = cut(train, share)
    size = settings["cvae"]
    training = {key: size[key] for key in ("epochs", "batch_size", "learning_rate")}
    cvae = CVAE(few.images[0].numel(), 10, size["hidden_dims"], size["latent_dim"], seed=seed)
    fit(cvae, few, seed=seed, device="cpu", progress=False, **training)
    lessons = remedies(few, cvae, torch.Generator().manual_seed(seed))
    found = {name: scores(learn(lesson, settings["classifier"], seed), test) for name, lesson in lessons.items()}
    return found, cvae


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


def measure() -> dict[str, Any]:
    everything, test = data.load("mnist"), data.load("mnist", "test")
    table: dict[str, dict[str, dict[str, list[float]]]] = {str(share): {} for share in SHARES}
    full: dict[str, list[float]] = {}
    count: dict[str, list[int]] = {str(share): [] for share in SHARES}
    taken: dict[str, list[list[float]]] = {str(share): [] for share in SHARES}
    pictures = {}
    for seed in SEEDS:
        order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(seed))
        train = everything.subset(order[: SETTINGS["images"]])
        images, labels = train.images.flatten(1), train.labels
        judge = learn(Lesson(images, labels, torch.ones(len(labels)), torch.ones(10)), SETTINGS["classifier"], seed)
        for measure_name, value in scores(judge, test).items():
            full.setdefault(measure_name, []).append(round(value, 4))
        for share in SHARES:
            found, cvae = trial(train, test, share, SETTINGS, seed)
            for name, by_measure in found.items():
                for measure_name, value in by_measure.items():
                    table[str(share)].setdefault(name, {}).setdefault(measure_name, []).append(round(value, 4))
            count[str(share)].append(int((cut(train, share).labels == RARE).sum()))
            taken[str(share)].append(judged(cvae, judge, seed))
            if seed == SEEDS[0]:
                pictures[str(share)] = strip(cvae)
            print(f"seed {seed}, share {share}: {found}", flush=True)
    return {"rare_images": count, "nothing_removed": full, "shares": table, "drawn_taken_for": taken, "png": pictures}


def main() -> None:
    # One part, which takes ten minutes: --help says what it is, and --resume passes over it where it is stored.
    if not list(shared.chosen(["all"], {"all": shared.read(RESULTS)}, __doc__)):
        return
    start = time.process_time()
    found = measure()
    results = {
        "what": f"MNIST, the training images of digit {RARE} cut to a share; recall, precision and break-even point of "
        "that digit and the accuracy over all ten, on the 10,000 test images, one value for each seed",
        "rare": RARE,
        "seeds": SEEDS,
        "settings": SETTINGS,
        **found,
        "command": "python -m experiments.measure_imbalance",
        "cpu_minutes": round((time.process_time() - start) / 60, 1),
        **shared.provenance(),
    }
    shared.write(RESULTS, results)


if __name__ == "__main__":
    main()
