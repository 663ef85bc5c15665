"""Measure which score tells anomalies from digits (chapter 14): ``python -m experiments.measure_anomaly [NAME ...]``.

Written down before the run.

Questions: (1) Which score finds a digit that was left out of the training? (2) What do kinds of anomalies do to each
score, and does the result for letters depend on how they are drawn? (3) Are grey pixels what makes 1s likely?
Measure: the AUROC, with DeLong's standard error over images; 400 normal test images and at most 200 anomalies, drawn at
random; three seeds, which draw images, weights and order.
Scores: -ELBO (5 draws of z); "independent", the log likelihood under independent pixels minus the ELBO; "background",
the ratio as Ren et al. (2019) published it: minus the ELBO plus that of a second VAE with the same layers, trained on
images in which a fifth of the pixels, chosen at random, is replaced by uniform noise (0.2 is the share that Xiao et al.
(2020) take for VAEs); "regret" (Xiao et al. 2020): what the ELBO gains when mean and variance of q are optimised for
the image, 100 steps of Adam, the decoder fixed. Rivals that use no VAE: "nearest", the distance to the nearest training
image; "pca", the squared distance from the subspace of the first 20 principal components. No score is tuned, since
tuning needs anomalies.
(1) Ten models a seed, each without one digit. One score beats another if the difference of their mean AUROCs over the
ten digits exceeds 2.3 standard errors over the digits (the 97.5% point of t with 9 averaged over
the seeds. (2) Letters of four sizes and four widths of the stroke, 60 each; a statement on letters must hold for all
16. (3) Intervention: a model that knows no 1s, and the 1s themselves, with all pixels 0 or 1 by a threshold of one
half. If grey pixels are the cause, the AUROC of the 1s by -ELBO rises to one half. And: digits with their lower half
erased, which no training image resembles, and pairs of digits laid over each other.

Writes book/results/anomaly.json: "seed 0" to "seed 2", about three minutes each, and "together".

Added after the first run: "together" averages the seeds that are stored (so far seed 1 alone); its errors are over the
ten digits, or over the images.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import softplus

from experiments import shared
from experiments.measure_uses import QUIET, Found, run_parts, summary
from vaelib import data
from vaelib.distributions import bernoulli_log_prob
from vaelib.training import fit
from vaelib.vae import VAE

RESULTS = shared.results("anomaly")
SEEDS = [0, 1, 2]
MODEL: dict[str, Any] = {"hidden_dims": [400], "latent_dim": 20, "images": 10_000, "epochs": 4, "learning_rate": 5e-3}
MUTATED = 0.2
COMPONENTS = 20
NORMAL, STRANGE, LETTERS = 400, 200, 60
# Points of a canvas of 112: a digit of MNIST is 80 high there, its stroke 8 to 12 wide.
SIZES, STROKES = [52, 68, 84, 100], [0, 2, 4, 6]
SCORES = ["minus_elbo", "independent", "background", "regret", "nearest", "pca"]


def mutate(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Replace a share of the pixels, chosen at random, by uniform noise (Ren et al. 2019)."""
    chosen = torch.rand(x.shape, generator=generator) < MUTATED
    return torch.where(chosen, torch.rand(x.shape, generator=generator), x)


def model_of(images: Tensor, seed: int, mutated: bool = False) -> VAE:
    model = VAE(images.shape[1], MODEL["hidden_dims"], MODEL["latent_dim"], seed=seed)
    fit(model, images, epochs=MODEL["epochs"], learning_rate=MODEL["learning_rate"], seed=seed,
        transform=mutate if mutated else None, **QUIET)  # fmt: skip
    return model.requires_grad_(False)


def minus_elbo(model: VAE, x: Tensor) -> Tensor:
    return -model.elbo(x, n_samples=5, generator=torch.Generator().manual_seed(0)).elbo


def floor(x: Tensor) -> Tensor:
    """The least nats that grey pixels cost under a Bernoulli decoder: ``(batch,)``."""
    return -(torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x)).sum(1)


def regret(model: VAE, x: Tensor, steps: int = 100, rate: float = 0.05) -> Tensor:
    """What the ELBO of each image gains when q is optimised for it, the decoder fixed (Xiao et al. 2020)."""
    mu, log_var = (part.clone().requires_grad_(True) for part in model.encode(x))

    def elbo(draws: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        total = torch.zeros(len(x))
        for _ in range(draws):
            logits = model.decode(mu + (0.5 * log_var).exp() * torch.randn(mu.shape, generator=generator))
            total = total + (x * logits - softplus(logits)).sum(1)
        return total / draws - 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1)

    with torch.no_grad():
        before = elbo(20, 0)
    optimizer = torch.optim.Adam([mu, log_var], lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        loss = -elbo(1, step + 1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return elbo(20, 0) - before


class Detector:
    """All scores of one set of known images; a higher score says anomaly."""

    def __init__(self, known: Tensor, seed: int) -> None:
        self.known = known
        self.model = model_of(known, seed)
        self.background = model_of(known, seed, mutated=True)
        self.mean = known.mean(0)
        self.axes = torch.linalg.eigh(torch.cov(known.T)).eigenvectors[:, -COMPONENTS:]

    def scores(self, x: Tensor) -> dict[str, Tensor]:
        usual, centred = minus_elbo(self.model, x), x - self.mean
        return {
            "minus_elbo": usual,
            "independent": usual + bernoulli_log_prob(x, torch.logit(self.mean, eps=1e-3)),
            "background": usual - minus_elbo(self.background, x),
            "regret": regret(self.model, x),
            "nearest": torch.cdist(x, self.known).min(1).values,
            "pca": (centred - centred @ self.axes @ self.axes.T).square().sum(1),
        }


def auroc(anomalies: Tensor, normal: Tensor) -> tuple[float, float]:
    """Return the share of pairs in which the anomaly has the higher score, ties as half, and its standard error.

    Source:
        DeLong, DeLong and Clarke-Pearson (1988): both sums of placements vary independently.
    """
    above = placements(anomalies, normal)
    below = 1 - placements(normal, anomalies)
    variance = above.var() / len(above) if len(above) > 1 else torch.tensor(0.0)
    return above.mean().item(), (variance + below.var() / len(below)).sqrt().item()


def placements(one: Tensor, other: Tensor) -> Tensor:
    """For each of one, the share of the other that lies below it, ties as half."""
    ranked = other.double().sort().values
    low, high = (torch.searchsorted(ranked, one.double(), right=right) for right in (False, True))
    return (low + high).double() / (2 * len(other))


def draw_letter(rng: np.random.Generator, size: int, stroke: int, side: int = 28) -> np.ndarray:
    """A capital letter, turned and moved a little: grey, (side, side)."""
    face = str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")
    canvas = Image.new("L", (112, 112))
    x, y = 56 + rng.integers(-6, 7, size=2).astype(float)
    letter = "ABCDEFGHJKMNPRTUVWXY"[rng.integers(20)]
    font = ImageFont.truetype(face, size)
    ImageDraw.Draw(canvas).text((x, y), letter, fill=255, font=font, anchor="mm", stroke_width=stroke)
    turned = canvas.rotate(rng.uniform(-15, 15), resample=Image.Resampling.BICUBIC)
    return np.asarray(turned.resize((side, side), Image.Resampling.BOX), dtype=np.float32) / 255


def letters(seed: int, size: int, stroke: int, side: int) -> Tensor:
    rng = np.random.default_rng([seed, size, stroke])
    return torch.from_numpy(np.stack([draw_letter(rng, size, stroke, side) for _ in range(LETTERS)])).flatten(1)


def kinds(x: Tensor, seed: int) -> dict[str, Tensor]:
    """Anomalies of several kinds, made of test digits ``(batch, D)`` or of letters."""
    side, generator = round(x.shape[1] ** 0.5), torch.Generator().manual_seed(seed)
    squares, half = x.view(-1, side, side), torch.arange(side) < side // 2
    return {
        "noise": torch.rand(x.shape, generator=generator),
        "inverted": 1 - x,
        "shuffled": x[:, torch.randperm(x.shape[1], generator=generator)],
        "upside down": squares.flip(1, 2).flatten(1),
        "lower half erased": (squares * half[:, None]).flatten(1),
        "two digits": torch.maximum(x, x.roll(1, 0)),
        "blank": torch.zeros(1, x.shape[1]),
        **{f"letters {size} {stroke}": letters(seed, size, stroke, side) for size in SIZES for stroke in STROKES},
    }


def areas(strange: dict[str, Tensor], usual: dict[str, Tensor]) -> Found:
    return {name: [round(value, 4) for value in auroc(strange[name], usual[name])] for name in usual}


def part_of(seed: int) -> Callable[..., Found]:
    def part(train: data.ImageData, test: data.ImageData, classes: range = range(10)) -> Found:
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
        x_test, y_test = (each[torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))] for each in
                          (test.images.flatten(1), test.labels))  # fmt: skip
        found: Found = {"left out": {}, "kinds": {}}
        for k in classes:
            rows = order[train.labels[order] != k][: MODEL["images"]]
            detector = Detector(train.images[rows].flatten(1), seed)
            new, old = x_test[y_test == k][:STRANGE], x_test[y_test != k][:NORMAL]
            usual, strange = detector.scores(old), detector.scores(new)
            found["left out"][str(k)] = areas(strange, usual)
            print(seed, k, found["left out"][str(k)], flush=True)
            if k == 1:
                found["ones"] = ones(train.images[rows].flatten(1), new, old, strange, usual, seed)
        detector = Detector(train.images[order[: MODEL["images"]]].flatten(1), seed)
        usual = detector.scores(x_test[:NORMAL])
        for name, images in kinds(x_test[-STRANGE:], seed).items():
            found["kinds"][name] = areas(detector.scores(images), usual)
            print(seed, name, found["kinds"][name], flush=True)
        return {**MODEL, "mutated": MUTATED, **found, "seed": seed, "summary": []}

    return part


def ones(known: Tensor, new: Tensor, old: Tensor, strange: Found, usual: Found, seed: int) -> Found:
    """The AUROC of unseen 1s by -ELBO, by the floor of grey pixels, without it, and with all pixels 0 or 1."""
    hard = [data.binarize(x, threshold=0.5) for x in (known, new, old)]
    model = model_of(hard[0], seed)
    pairs = {
        "grey": (strange["minus_elbo"], usual["minus_elbo"]),
        "floor alone": (floor(new), floor(old)),
        "grey, without the floor": (strange["minus_elbo"] - floor(new), usual["minus_elbo"] - floor(old)),
        "pixels 0 or 1": (minus_elbo(model, hard[1]), minus_elbo(model, hard[2])),
    }
    return {name: [round(value, 4) for value in auroc(*pair)] for name, pair in pairs.items()}


def together(train: data.ImageData, test: data.ImageData) -> Found:
    """Average over the seeds that are stored, and compare the scores over the digits."""
    stored = shared.read(RESULTS)
    seeds = [seed for seed in SEEDS if f"seed {seed}" in stored]
    parts = [stored[f"seed {seed}"] for seed in seeds]
    found = averaged(parts)
    minutes = round(sum(part["cpu_minutes"] for part in parts), 1)
    return {**found, "summary": [{**each, "cpu_minutes": minutes} for each in found["summary"]], "seeds": seeds}


def averaged(parts: list[Found]) -> Found:
    digits = list(parts[0]["left out"])

    def area(pairs: list[list[float]]) -> Found:
        """Mean over the seeds, and the standard error over images."""
        values, errors = np.transpose(pairs)
        return {"mean": round(values.mean(), 4), "se": round(float((errors**2).sum() ** 0.5 / len(errors)), 4)}

    def by_digit(score: str) -> np.ndarray:
        return np.array([area([part["left out"][k][score] for part in parts])["mean"] for k in digits])

    found: Found = {"mean": {}, "differences": {}, "kinds": {}, "ones": {}}
    for score in SCORES:
        found["mean"][score] = {**summary(by_digit(score)), "by_digit": by_digit(score).tolist()}
        for other in SCORES:
            if other != score:
                found["differences"][f"{score} - {other}"] = summary(by_digit(score) - by_digit(other))
    for name, kind in parts[0]["kinds"].items():
        found["kinds"][name] = {score: area([part["kinds"][name][score] for part in parts]) for score in kind}
    for name in parts[0]["ones"]:
        found["ones"][name] = area([part["ones"][name] for part in parts])
    small, large = (found["kinds"][f"letters {size} {stroke}"]["minus_elbo"] for size, stroke in
                    ((SIZES[0], STROKES[0]), (SIZES[-1], STROKES[-1])))  # fmt: skip
    found["letters"] = {"small and thin": small, "large and bold": large}
    found["summary"] = [
        {
            "question": "Which score finds a digit that was left out of the training, on average over the ten?",
            "result": "AUROC: -ELBO {mean[minus_elbo][mean]:.2f}, ratio to a background model "
            "{mean[background][mean]:.2f}, regret {mean[regret][mean]:.2f}, nearest image {mean[nearest][mean]:.2f}",
            "error": "nearest minus regret {differences[nearest - regret][mean]:+.2f}, se "
            "{differences[nearest - regret][se]:.2f} (paired, over digits)",
        },
        {
            "question": "Does -ELBO find letters?",
            "result": "AUROC from {letters[small and thin][mean]:.2f} for small thin letters to "
            "{letters[large and bold][mean]:.3f} for large bold ones",
            "error": "{letters[small and thin][se]:.2f}, {letters[large and bold][se]:.3f} (over images)",
        },
        {
            "question": "Are grey pixels what makes unseen 1s likely?",
            "result": "AUROC of the 1s {ones[grey][mean]:.2f} with grey pixels, "
            "{ones[pixels 0 or 1][mean]:.2f} without",
            "error": "{ones[grey][se]:.2f}, {ones[pixels 0 or 1][se]:.2f} (over images)",
        },
    ]
    return found


RUNS: dict[str, Callable[..., Found]] = {
    **{f"seed {seed}": part_of(seed) for seed in SEEDS},
    "together": together,
}
EVALUATION = dict.fromkeys(RUNS, "MNIST, grey pixels; 400 normal test images, at most 200 anomalies, drawn at random")


def main() -> None:
    run_parts("measure_anomaly", RUNS, EVALUATION, __doc__)


if __name__ == "__main__":
    main()
