"""Measure what the codes of a VAE are good for (chapter 14): ``python -m experiments.measure_uses [NAME ...]``.

Written down before the runs; what was added afterwards says so.

recognition
  Question: by how many nats does the encoder of the model with a latent plane miss the posterior, and is that the
  amortisation gap (one network for all images) or a failure to generalise (images that it was not trained on)?
  Measure: KL(q || posterior) in nats, with the posterior on a grid; training images against test images, 500 of each,
  drawn at random, three draws. Intervention: the decoder is frozen and the encoder alone trained further, on 5,000 test
  images ("seen") or, as a control, on 5,000 training images; the KL of 500 seen and of 500 unseen test images, before
  and after. If capacity is what lacks, the KL of the seen images stays; if generalisation, it falls for the seen images
  and stays for the unseen ones. Three seeds.

labels
  Question: with few labels, is the 20-dimensional code of a VAE a better input for a classifier than PCA or the pixels?
  Measure: test accuracy on all 10,000 test images; paired differences over the same 10 draws of the labelled images.
  Rivals: PCA with 20 components, the pixels. The same chance: each with the same
  penalties, C = 10, and up to 100 labels also 1 and 100, all of them reported; and with the nearest labelled image. Yes
  or no: a mean difference of more than 2.3 standard errors (the 97.5% point of t with 9 degrees of freedom); in between
  "not decided".

maps
  Question: does a plane of two latent dimensions keep images of a class together better than other maps?
  Measure: the share of the 10 nearest neighbours of the same label, among 3,000 test images drawn at random.
  Rivals: two principal components; a plain autoencoder with the same networks, images, epochs and rate (three seeds of
  each); t-SNE (one run of scikit-learn's defaults, fitted to the 3,000 images themselves); the pixels,
  which are no map.

Writes book/results/uses.json. The VAE of recognition and labels is the model that ships: one training.
"""

import copy
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from torch import Tensor
from torch.nn.functional import softplus

from experiments import shared
from vaelib import data, latent, pretrained
from vaelib.autoencoder import Autoencoder
from vaelib.training import fit
from vaelib.vae import VAE

RESULTS = shared.results("uses")
KEPT = shared.ROOT / "_build" / "uses"  # what one part leaves for another
SEEDS = [0, 1, 2]
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}
RECOGNITION: dict[str, Any] = {"images": 500, "trained_on": 5000, "epochs": 10, "learning_rate": 1e-3}
LABELS: dict[str, Any] = {
    "pool": 10_000,
    "components": 20,
    "sizes": [10, 50, 100, 1000],
    "draws": 10,
    "C": [1, 10, 100],
}
MAPS: dict[str, Any] = {
    "images": 3000,
    "hidden_dims": [500],
    "activation": "tanh",
    "trained_on": 10_000,
    "epochs": 10,
    "learning_rate": 3e-3,
}

Found = dict[str, Any]


def shipped(name: str = "mnist-20d") -> VAE:
    """Return a model that ships, frozen."""
    model = pretrained.load(name)
    assert isinstance(model, VAE)
    return model.requires_grad_(False)


def at_random(images: data.ImageData, n: int, seed: int = 0) -> data.ImageData:
    """Return n images drawn at random without replacement."""
    return images.subset(torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:n])


def summary(values: Any) -> Found:
    """Return mean and standard error of independent values."""
    numbers = torch.as_tensor(values, dtype=torch.float64)
    return {"mean": round(numbers.mean().item(), 4), "se": round((numbers.std() / len(numbers) ** 0.5).item(), 4)}


# Recognition


@torch.no_grad()
def grid_of(plane: VAE, step: float = 0.05, end: float = 6.0) -> tuple[Tensor, Tensor]:
    """Return the logits at the points of a square grid, and what does not depend on x in log p(x, z)."""
    axis = torch.arange(-end, end + step / 2, step)
    points = torch.cartesian_prod(axis, axis)
    logits = plane.decode(points)
    apart = -softplus(logits).sum(1) - 0.5 * points.square().sum(1) - math.log(2 * math.pi) + 2 * math.log(step)
    return logits, apart


@torch.no_grad()
def gaps(plane: VAE, images: Tensor, seed: int, grid: tuple[Tensor, Tensor]) -> Tensor:
    """Return KL(q || posterior) of each image: log p(x) by the grid, minus the ELBO of 200 draws: ``(batch,)``."""
    logits, apart = grid
    log_p = torch.cat([(x @ logits.T + apart).logsumexp(1) for x in images.split(100)])
    return log_p - plane.elbo(images, n_samples=200, generator=torch.Generator().manual_seed(seed)).elbo


def encoder_trained_on(plane: VAE, images: Tensor, seed: int) -> VAE:
    """Return the model after its encoder alone was trained further on the ELBO of some images."""
    model = copy.deepcopy(plane)
    model.decoder.requires_grad_(False)
    model.encoder.requires_grad_(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the decoder gets no gradient is meant
        fit(model, images, epochs=RECOGNITION["epochs"], learning_rate=RECOGNITION["learning_rate"], seed=seed, **QUIET)
    return model.requires_grad_(False)


def recognition(train: data.ImageData, test: data.ImageData, plane: VAE | None = None) -> Found:
    plane = plane or shipped("mnist-2d")
    n, many = RECOGNITION["images"], RECOGNITION["trained_on"]
    grid = grid_of(plane)  # the decoder is the same in all that follows
    found: Found = {"kl": {"training": [], "test": []}, "further": {}}
    rows: dict[str, list[Tensor]] = {}
    for seed in SEEDS:
        x_train, x_test = (at_random(part, 2 * many, seed).images.flatten(1) for part in (train, test))
        seen, unseen = x_test[: len(x_test) // 2][:many], x_test[len(x_test) // 2 :]
        found["kl"]["training"].append(summary(gaps(plane, x_train[-n:], seed, grid)))
        found["kl"]["test"].append(summary(gaps(plane, x_test[-n:], seed, grid)))
        models = {
            "before": plane,
            "after training images": encoder_trained_on(plane, x_train[:many], seed),
            "after seen test images": encoder_trained_on(plane, seen, seed),
        }
        for name, model in models.items():
            for of, x in (("seen", seen[:n]), ("unseen", unseen[-n:])):
                rows.setdefault(f"{name}, {of}", []).append(gaps(model, x, seed, grid))
    for name, kls in rows.items():
        means = [round(kl.mean().item(), 3) for kl in kls]
        found["further"][name] = summary(means) | {"by_seed": means}
    few = x_test[-n:][:100]
    finer = gaps(plane, few, 0, grid_of(plane, step=0.025)) - gaps(plane, few, 0, grid)
    kl = {of: summary([each["mean"] for each in found["kl"][of]]) for of in ("training", "test")}
    share = round(1 - kl["training"]["mean"] / kl["test"]["mean"], 3)
    found |= {"kl_of_draws": kl, "share_not_amortisation": share, "finer_grid": round(finer.abs().max().item(), 4)}
    found["summary"] = [
        {
            "question": "How far is the encoder from the posterior on images that it was trained on, and on new ones?",
            "result": "KL {kl_of_draws[training][mean]:.1f} nats on training images, "
            "{kl_of_draws[test][mean]:.1f} on test images",
            "error": "{kl_of_draws[training][se]:.1f} and {kl_of_draws[test][se]:.1f} (se over draws of 500 images)",
        },
        {
            "question": "Does the encoder lack capacity, or does it fail to generalise?",
            "result": "encoder trained further on 5,000 test images: "
            "{further[after seen test images, seen][mean]:.1f} nats on these, "
            "{further[after seen test images, unseen][mean]:.1f} on others",
            "error": "{further[after seen test images, seen][se]:.1f}, "
            "{further[after seen test images, unseen][se]:.1f} (se over three seeds)",
        },
    ]
    return {**RECOGNITION, **found, "seeds": SEEDS}


# Labels


def scaled(fit_on: Tensor, *parts: Tensor) -> list[np.ndarray]:
    """Centre and scale, so that the total variance of fit_on is 1."""
    mean, scale = fit_on.mean(0), fit_on.var(0).sum().sqrt()
    return [((part - mean) / scale).numpy() for part in parts]


def nearest(x: np.ndarray, y: np.ndarray, x_new: np.ndarray) -> np.ndarray:
    """The label of the nearest labelled image."""
    return y[torch.cdist(torch.from_numpy(x_new), torch.from_numpy(x)).argmin(1)]


def linear(penalty: float) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    def classify(x: np.ndarray, y: np.ndarray, x_new: np.ndarray) -> np.ndarray:
        return LogisticRegression(C=penalty, max_iter=1000).fit(x, y).predict(x_new)

    return classify


def features(pool: data.ImageData, test: data.ImageData, model: VAE) -> dict[str, list[np.ndarray]]:
    x_pool, x_test = pool.images.flatten(1), test.images.flatten(1)
    axes = torch.linalg.eigh(torch.cov(x_pool.T)).eigenvectors[:, -LABELS["components"] :]
    found = {"pca": scaled(x_pool @ axes, x_pool @ axes, x_test @ axes), "pixels": scaled(x_pool, x_pool, x_test)}
    codes = [latent.encode_dataset(model, part.images).mu for part in (pool, test)]
    return {"vae": scaled(codes[0], *codes), **found}


def labels(train: data.ImageData, test: data.ImageData, model: VAE | None = None) -> Found:
    pool = train.subset(LABELS["pool"])
    both = features(pool, test, model or shipped())
    rules = {"nearest": nearest, **{f"linear, C = {penalty}": linear(penalty) for penalty in LABELS["C"]}}
    y, y_new = pool.labels.numpy(), test.labels.numpy()
    found: Found = {}
    for rule, classify in rules.items():
        for n in LABELS["sizes"]:
            if n > 100 and rule in ("linear, C = 1", "linear, C = 100"):
                continue  # minutes; exercise 3 of the chapter tries them
            right: dict[str, list[float]] = {name: [] for name in both}
            for draw in range(LABELS["draws"]):
                rng = np.random.default_rng([0, draw])
                chosen = [rng.choice(np.flatnonzero(y == k), n // 10, replace=False) for k in range(10)]
                rows = np.concatenate(chosen)
                for name, (known, new) in both.items():
                    right[name].append(100 * (classify(known[rows], y[rows], new) == y_new).mean())
            found.setdefault(rule, {})[str(n)] = compared(right)
            print(rule, n, found[rule][str(n)], flush=True)
    found["summary"] = [
        {
            "question": f"With {n} labels and logistic regression, is the VAE's code better than PCA?",
            "result": f"VAE minus PCA {{linear, C = 10[{n}][vae - pca][mean]:+.1f}} points of accuracy",
            "error": f"{{linear, C = 10[{n}][vae - pca][se]:.1f}} (paired, over draws of the labels)",
        }
        for n in (10, 1000)
    ]
    return {**LABELS, **found, "seeds": [0]}


def compared(right: dict[str, list[float]]) -> Found:
    """Return accuracies in percent, and paired differences over the draws."""
    values = {name: np.array(each) for name, each in right.items()}
    found: Found = {name: summary(values[name]) for name in ("vae", "pca", "pixels")}
    for one, other in (("vae", "pca"), ("vae", "pixels"), ("pca", "pixels")):
        found[f"{one} - {other}"] = summary(values[one] - values[other])
    return found


# Maps


def agreement(points: Tensor, labels: Tensor, k: int = 10) -> Tensor:
    """The share of the k nearest other points with a point's label: ``(batch,)``."""
    apart = torch.cdist(points, points).fill_diagonal_(torch.inf)
    return (labels[apart.topk(k, largest=False).indices] == labels[:, None]).float().mean(1)


def maps(train: data.ImageData, test: data.ImageData) -> Found:
    shown = at_random(test, MAPS["images"])
    x, known = shown.images.flatten(1), train.subset(MAPS["trained_on"])
    how = {"epochs": MAPS["epochs"], "learning_rate": MAPS["learning_rate"], **QUIET}
    centred = known.images.flatten(1) - known.images.flatten(1).mean(0)
    axes = torch.linalg.eigh(torch.cov(centred.T)).eigenvectors[:, -2:]
    with torch.no_grad():
        points: dict[str, list[Tensor]] = {"pca": [x @ axes], "pixels": [x], "vae": [], "autoencoder": [], "tsne": []}
    for seed in SEEDS:
        size = x.shape[1], MAPS["hidden_dims"], 2
        vae = VAE(*size, activation=MAPS["activation"], seed=seed)
        plain = Autoencoder(*size, activation=MAPS["activation"], seed=seed)
        for model in (vae, plain):
            fit(model, known, seed=seed, **how)
        with torch.no_grad():
            points["vae"].append(vae.encode(x).mu)
            points["autoencoder"].append(plain.encode(x))
        if seed == SEEDS[0]:
            points["tsne"].append(torch.from_numpy(TSNE(random_state=seed).fit_transform(x.numpy())))
        print("maps, seed", seed, flush=True)
    shares = {name: [agreement(each, shown.labels).mean().item() for each in found] for name, found in points.items()}
    found: Found = {name: {"by_seed": [round(value, 4) for value in values]} for name, values in shares.items()}
    for name in ("vae", "autoencoder"):
        found[name] |= summary(shares[name])
    found["vae - autoencoder"] = summary(np.subtract(shares["vae"], shares["autoencoder"]))
    found["summary"] = [
        {
            "question": "On a map of digits, what share of the ten nearest neighbours has the same label?",
            "result": "VAE {vae[mean]:.0%}, autoencoder {autoencoder[mean]:.0%}, t-SNE {tsne[by_seed][0]:.0%}, "
            "PCA {pca[by_seed][0]:.0%}",
            "error": "{vae[se]:.1%}, {autoencoder[se]:.1%} (se over three seeds)",
        }
    ]
    return {**MAPS, **found, "seeds": SEEDS}


EVALUATION = {
    "recognition": "MNIST, the model mnist-2d, grey pixels as they are; images drawn at random",
    "labels": "10,000 MNIST test images; labelled ones drawn from the first 10,000 training images, by class",
    "maps": "3,000 MNIST test images drawn at random",
}
RUNS: dict[str, Callable[[data.ImageData, data.ImageData], Found]] = {
    "recognition": recognition,
    "labels": labels,
    "maps": maps,
}


def run_parts(script: str, runs: dict[str, Callable[..., Found]], evaluation: dict[str, str], doc: str | None) -> None:
    """Run the parts that the command line names and store each with its question, command and origin."""
    file = shared.results(script.removeprefix("measure_"))
    names = list(shared.chosen(runs, shared.read(file), doc))
    train, test = data.load("mnist"), data.load("mnist", "test")
    for name in names:
        start = time.process_time()
        found = runs[name](train, test)
        minutes = round((time.process_time() - start) / 60, 2)
        command = f'python -m experiments.{script} "{name}"'
        found |= {"evaluation": evaluation[name], "cpu_minutes": minutes, "command": command, **shared.provenance()}
        shared.store(file, found, name)


def main() -> None:
    run_parts("measure_uses", RUNS, EVALUATION, __doc__)


if __name__ == "__main__":
    main()
