"""Compare cures of posterior collapse: ``python -m experiments.measure_collapse [PART ...]``.

Writes book/results/collapse.json. Written before the first run:

Question. Which cures of posterior collapse give a better model, that is, a higher log evidence, and which give active
units alone?

Two models of MNIST; 10,000 training images drawn at random, K = 10, 784-400-10.
  sigma           grey pixels, Gaussian with sigma = 2.5 (fixed). The largest variance of the data in any direction is
                  about 5, less than 2.5^2, so that for a linear decoder the collapsed state is the optimum (Lucas et
                  al. 2019).
  autoregressive  black and white pixels, drawn once. The logit of a pixel is the decoder's, plus a linear function of
                  all pixels before it in reading order, whose weights are learned. Training begins at such a model
                  that was trained without a code, so that the decoder is ahead of the encoder.

Arms. "none"; "annealing" (the KL weight rises evenly from 0 to 1 over the first half of the steps; Bowman et al.
2016); "free bits" (the mean KL of each dimension counts as at least 0.25 nats; Kingma et al. 2016); "aggressive" (in
the first fifth of the steps, five steps of the encoder alone, on other batches, before each step of both; He et al.
2019); and what changes the model or its start: "learned sigma" for the first; for the second "together" (the weights
of the pixels begin at zero) and a weaker decoder, in which the logit of a pixel sees only its four nearest earlier
neighbours ("near pixels") or no pixel at all ("no pixels"); these three have no head start.
Rival: the same decoder without a latent variable, trained for as long ("no code"); its log evidence is exact.

Seen before this was written: one run each of 8 epochs at the rate 0.003 of "together" (KL 14.6, L_500 -100.6), of
"together" with a hidden layer of 500 units for the pixels (KL 15.2, -101.9; "no code" -113.8), of "no code" (-118.6)
and of "none" (KL 5.9, -100.2). So this decoder does not collapse, it lowers the KL; the question is whether cures
that raise the KL raise L_500.

Measures. L_500 of 500 test images drawn at random; the -ELBO of the same images with 50 draws each; the KL; active
units of 2,000 test images; the KL along training with seed 0. L_500 compares arms that change the model, too, since
each gives a density (sigma) or a probability (autoregressive) to the same pixels. It is a lower bound: where the KL
is large it may fall short by more.

The same chance. Each arm has a peak rate of its own, by L_100 of 500 validation images with seed 100, of RATES; where
the first or the last of them is the best, a third or three times of it is tried as well. All have the same recipe and
as many steps of the decoder; CPU minutes are told.

Seeds 0, 1, 2; differences from "none" and from "no code", paired.
Yes, a cure gives a better model: its L_500 is above that of "none" by more than 4.3 standard errors (97.5% point of t
with 2 degrees of freedom). Active units are told, and decide nothing. In between: not decided.

Added later, when all of the above were known, before they ran:
"sigma 2.0": the first model with sigma = 2.0, whose square is below the largest variance, so that for a linear decoder
the optimum is not collapsed: "none", "annealing", "aggressive", "no code". Is collapse made in training there? Yes, if
"none" has no active unit with any seed and a cure of the training is better than it by the rule above. (One or two
seeds of each at one rate had been seen: none 0 active, annealing 2 and 0.04 nats better, aggressive 0.)
"sigma: free bits 0.02": free bits at sigma = 2.5 with a floor of 0.02 nats in the place of 0.25. Is the loss by free
bits that of the floor? Yes, if L_500 with 0.02 is above that with 0.25 by more than 4.3 standard errors, paired. (One
seed had been seen: -0.01 nats from "none".)
"autoregressive: annealing together": annealing without the head start. Does annealing help where the decoder is not
ahead? Yes, if it is better than "together" by the rule above; and is the gain of "near pixels" the decoder's or that of
leaving out the head start? The decoder's, if "near pixels" is better than "together" by that rule. (One seed of the
former had been seen, 0.00 nats, and the stored runs of the latter.)

With OMP_NUM_THREADS=1 a part takes one to six minutes, and everything about 30.
"""

import math
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from experiments import shared
from experiments.measure_ablation import MEASURES, factor
from vaelib import data
from vaelib.distributions import bernoulli_log_prob
from vaelib.evaluation import active_units, log_evidence
from vaelib.vae import VAE

RESULTS = shared.results("collapse")
IMAGES, HELD_OUT, LATENT_DIM, HIDDEN, BATCH_SIZE = 10_000, 500, 10, (400,), 128
EPOCHS = {"sigma": 6, "sigma 2.0": 6, "autoregressive": 10}
RATES = (1e-3, 3e-3, 9e-3)
SEEDS = (0, 1, 2)
TUNING_SEED = 100
SIGMA, FLOOR, AGGRESSIVE = 2.5, 0.25, 5
SIGMAS = {"sigma": SIGMA, "sigma 2.0": 2.0}
FLOORS = {"free bits": FLOOR, "free bits 0.02": 0.02}
COMMON = ("none", "annealing", "free bits", "aggressive")
WITHOUT_HEAD_START = ("together", "near pixels", "no pixels", "annealing together")
ARMS = {
    "sigma": (*COMMON, "learned sigma", "no code", "free bits 0.02"),
    "autoregressive": (*COMMON, "together", "near pixels", "no pixels", "no code", "annealing together"),
    "sigma 2.0": ("none", "annealing", "aggressive", "no code"),
}
# Beside "none" and "no code", what an arm is compared with.
RIVALS = {
    "autoregressive: near pixels": "together",
    "autoregressive: annealing together": "together",
    "sigma: free bits 0.02": "free bits",
}


class Autoregressive(VAE):
    """A VAE of black and white images whose decoder sees earlier pixels: ``l_d(z, x) = g_d(z) + sum_(e<d) A_de x_e``.

    Args:
        side: height and width of the images, in pixels.
        seen: which earlier pixels count: "all", "near" (left, and the three above) or "none".
        others: what a VAE takes.
    """

    mask: Tensor

    def __init__(self, side: int, hidden_dims: Any, latent_dim: int, seen: str = "all", seed: int = 0) -> None:
        super().__init__(side * side, hidden_dims, latent_dim, seed=seed)
        self.register_buffer("mask", earlier(side, seen))
        self.pixels = nn.Parameter(torch.zeros(side * side, side * side))

    def log_likelihood(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Return log p(x|z): the chain rule over the pixels, all at once."""
        return bernoulli_log_prob(x, decoded + x @ (self.pixels * self.mask).T, check=False)


def earlier(side: int, seen: str) -> Tensor:
    """Return which pixels each pixel sees, ``(side^2, side^2)`` of zeros and ones; none sees itself or a later one."""
    before = torch.tril(torch.ones(side * side, side * side), -1)
    row, column = torch.arange(side * side) // side, torch.arange(side * side) % side
    down, right = row[:, None] - row, column[:, None] - column
    near = (down.clamp(min=0, max=2) <= 1) & (down >= 0) & (right.abs() <= 1)
    return before * {"all": torch.ones_like(before), "near": near.float(), "none": torch.zeros_like(before)}[seen]


def fresh(kind: str, arm: str, side: int, seed: int) -> VAE:
    """Return an untrained model."""
    if kind in SIGMAS:
        sigma: Any = "learned" if arm == "learned sigma" else SIGMAS[kind]
        return VAE(side * side, HIDDEN, LATENT_DIM, likelihood="gaussian", sigma=sigma, seed=seed)
    seen = {"near pixels": "near", "no pixels": "none"}.get(arm, "all")
    return Autoregressive(side, HIDDEN, LATENT_DIM, seen, seed)


def objective(
    model: VAE, x: Tensor, arm: str, t: int, total: int, noise: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what an arm maximises, a mean over the batch, and both terms of the ELBO."""
    if arm == "no code":
        z = x.new_zeros(len(x), model.latent_dim)
        log_likelihood = model.log_likelihood(x, model.decode(z)).mean()
        return log_likelihood, log_likelihood, torch.zeros(())
    mu, log_var = model.encode(x)
    z = mu + (0.5 * log_var).exp() * torch.randn(mu.shape, generator=noise)
    log_likelihood = model.log_likelihood(x, model.decode(z)).mean()
    by_unit = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).mean(0)
    kl = charged = by_unit.sum()
    if arm.startswith("annealing"):
        charged = min(1.0, t / (0.5 * total)) * kl
    elif arm in FLOORS:
        charged = by_unit.clamp(min=FLOORS[arm]).sum()
    return log_likelihood - charged, log_likelihood, kl


def batches(n: int, seed: int) -> Iterator[Tensor]:
    """Yield the rows of one batch after the other, without an end, in the order in which `fit` takes them."""
    epoch = 0
    while True:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        yield from torch.randperm(n, generator=generator).split(BATCH_SIZE)
        epoch += 1


def train(
    kind: str, arm: str, images: Tensor, rate: float, seed: int, epochs: int | None = None, start: Any = None
) -> tuple[VAE, list[list[float]]]:
    """Train with chapter 9's recipe; return the model, and step, -ELBO and KL of every hundredth batch.

    `start` is a model without a code: training begins with its weights of the pixels and its logits at z = 0.
    """
    model: Any = fresh(kind, arm, math.isqrt(images[0].numel()), seed)
    x = model.check(images)
    model.start_at_mean(x)
    if start is not None:
        with torch.no_grad():
            model.pixels.copy_(start.pixels)
            model.decoder[-1].bias.copy_(start.decode(torch.zeros(1, LATENT_DIM))[0])
    settings: dict[str, Any] = {"lr": rate, "betas": (0.9, 0.99), "fused": True}
    both = torch.optim.Adam(model.parameters(), **settings)
    alone = torch.optim.Adam(model.encoder.parameters(), **settings)
    noise = torch.Generator().manual_seed(seed)
    total = (epochs or EPOCHS[kind]) * math.ceil(len(x) / BATCH_SIZE)
    rows, others, curve = batches(len(x), seed), batches(len(x), seed + 1000), []

    def step(optimizer: torch.optim.Adam, rows: Tensor, t: int) -> tuple[Tensor, Tensor]:
        optimizer.param_groups[0]["lr"] = rate * factor(t, total, MEASURES)
        model.zero_grad()
        maximised, log_likelihood, kl = objective(model, x[rows], arm, t, total, noise)
        (-maximised).backward()
        optimizer.step()
        return log_likelihood.detach(), kl.detach()

    for t in range(total):
        for _ in range(AGGRESSIVE if arm == "aggressive" and t < total / 5 else 0):
            step(alone, next(others), t)
        log_likelihood, kl = step(both, next(rows), t)
        if t % 100 == 0 or t == total - 1:
            curve.append([t, round((kl - log_likelihood).item(), 2), round(kl.item(), 3)])
    return model, curve


@torch.no_grad()
def bound(model: VAE, arm: str, x: Tensor, n_samples: int) -> float:
    """Return the mean L_n of some images; of "no code" the exact log evidence."""
    if arm == "no code":
        zero = torch.zeros(len(x), model.latent_dim)
        return model.log_likelihood(model.check(x), model.decode(zero)).mean().item()
    return log_evidence(model, x, n_samples).mean().item()


@torch.no_grad()
def measured(model: VAE, arm: str, few: Tensor, many: Tensor) -> dict[str, Any]:
    """Return the measures of one trained model; `few` for L_500, `many` for active units."""
    found = {"L_500": round(bound(model, arm, few, 500), 3)}
    if arm != "no code":
        terms = model.elbo(few, n_samples=50, generator=torch.Generator().manual_seed(0))
        found |= {
            "-ELBO": round(-terms.elbo.mean().item(), 3),
            "KL": round(terms.kl.mean().item(), 3),
            "active units": int(active_units(model, many).sum()),
        }
    if model.likelihood.name == "gaussian":
        found["sigma"] = round(model.log_sigma.exp().item(), 4)
    return found


def images_of(kind: str, source: data.ImageData, test: data.ImageData) -> dict[str, Tensor]:
    """Return training, validation and test images of one kind: drawn at random, and for both kinds the same."""
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))
    n, held_out = min(IMAGES, len(source) * 2 // 3), min(HELD_OUT, len(source) // 5)
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    found = {
        "training": source.images[order[:n]],
        "validation": source.images[order[n : n + held_out]],
        "few": test.images[chosen[:500]],
        "many": test.images[chosen[:2000]],
    }
    if kind == "autoregressive":
        draw = torch.Generator().manual_seed(0)
        found = {name: data.binarize(images, draw) for name, images in found.items()}
        found["few"] = found["many"][: len(found["few"])]
    return {name: images.flatten(1) for name, images in found.items()}


def head_start(kind: str, arm: str, training: Tensor) -> Any:
    """Return the model without a code at which training begins, or None."""
    if kind in SIGMAS or arm in WITHOUT_HEAD_START:
        return None
    return train(kind, "no code", training, RATES[1], TUNING_SEED)[0]


def tuned(kind: str, arm: str, images: dict[str, Tensor], start: Any) -> dict[str, float]:
    """Return L_100 of the validation images for each rate that was tried."""
    found: dict[float, float] = {}
    rates = list(RATES)
    while rates:
        rate = rates.pop(0)
        model, _ = train(kind, arm, images["training"], rate, TUNING_SEED, start=start)
        value = bound(model, arm, images["validation"], 100)
        found[rate] = value if math.isfinite(value) else -1e9
        print(f"{kind}: {arm}: rate {rate:.2g}, validation L_100 {value:.2f}", flush=True)
        best = max(found, key=found.__getitem__)
        if not rates and len(found) == len(RATES) and best in (RATES[0], RATES[-1]):
            rates = [best / 3 if best == RATES[0] else 3 * best]
    return {f"{rate:.6g}": round(value, 3) for rate, value in sorted(found.items())}


def measure(kind: str, arm: str, source: data.ImageData, test: data.ImageData) -> dict[str, Any]:
    """Choose an arm's rate, then train and measure it with each seed."""
    began, images = time.process_time(), images_of(kind, source, test)
    start = head_start(kind, arm, images["training"])
    validation = tuned(kind, arm, images, start)
    rate = float(max(validation, key=validation.__getitem__))
    runs: list[dict[str, Any]] = []
    curve: list[list[float]] = []
    for seed in SEEDS:
        before = time.process_time()
        model, each = train(kind, arm, images["training"], rate, seed, start=start)
        minutes = round((time.process_time() - before) / 60, 2)
        runs.append(
            {"seed": seed, **measured(model, arm, images["few"], images["many"]), "training_cpu_minutes": minutes}
        )
        curve = curve or each
        print(kind, arm, runs[-1], flush=True)
    largest = torch.linalg.eigvalsh(torch.cov(images["training"].T))[-1].item()
    return {
        "largest variance": round(largest, 3),
        "validation": validation,
        "learning_rate": rate,
        "runs": runs,
        "curve": {"step, -ELBO, KL": curve},
        "seeds": list(SEEDS),
        "cpu_minutes": round((time.process_time() - began) / 60, 2),
        "command": f'python -m experiments.measure_collapse "{kind}: {arm}"',
        "provenance": shared.provenance(),
    }


def differences(parts: dict[str, Any]) -> dict[str, Any]:
    """Return L_500 of each arm minus that of "none", of "no code" and of its rival, paired by seed, with a verdict."""
    found: dict[str, Any] = {}
    for name, part in parts.items():
        kind, arm = name.split(": ")
        for other in filter(None, ("none", "no code", RIVALS.get(name))):
            rival = parts.get(f"{kind}: {other}")
            if rival is None or arm in (other, "no code"):
                continue
            pairs = [a["L_500"] - b["L_500"] for a, b in zip(part["runs"], rival["runs"], strict=True)]
            mean, se = statistics.mean(pairs), statistics.stdev(pairs) / len(pairs) ** 0.5
            verdict = "not decided" if abs(mean) <= 4.3 * se else "better" if mean > 0 else "worse"
            found.setdefault(name, {})[other] = {"mean": round(mean, 3), "se": round(se, 3), "verdict": verdict}
    return found


HEAD = {
    "question": "Which cures of posterior collapse give a higher log evidence, and which give active units alone?",
    "rivals": "no cure; the same decoder without a latent variable; cures that change the model",
    "tuning": "each arm its own peak rate, by L_100 of 500 validation images with seed 100: 0.001, 0.003, 0.009, and a "
    "third or three times of it where the first or the last is the best",
    "evaluation": "L_500 of 500 MNIST test images drawn at random; sigma: densities of grey pixels; autoregressive: "
    "probabilities of black and white pixels, drawn once",
    "yes": "L_500 above that of 'none' by more than 4.3 standard errors over three seeds, paired",
}
SUMMARY = [
    {
        "question": "Which cures of collapse raise the log evidence where sigma is too large?",
        "result": "L_500 minus that of no cure: annealing {differences[sigma: annealing][none][mean]:+.2f}, free bits "
        "{differences[sigma: free bits][none][mean]:+.2f}, aggressive "
        "{differences[sigma: aggressive][none][mean]:+.2f}, learned sigma "
        "{differences[sigma: learned sigma][none][mean]:+.0f} nats",
        "error": "{differences[sigma: annealing][none][se]:.2f}, {differences[sigma: free bits][none][se]:.2f}, "
        "{differences[sigma: aggressive][none][se]:.2f}, {differences[sigma: learned sigma][none][se]:.0f} "
        "(paired, over seeds)",
        "seeds": 3,
    },
    {
        "question": "And where sigma is not too large for a code?",
        "result": "L_500 minus that of no cure: annealing {differences[sigma 2.0: annealing][none][mean]:+.3f}, "
        "aggressive {differences[sigma 2.0: aggressive][none][mean]:+.3f} nats",
        "error": "{differences[sigma 2.0: annealing][none][se]:.3f}, "
        "{differences[sigma 2.0: aggressive][none][se]:.3f} (paired, over seeds)",
        "seeds": 3,
    },
    {
        "question": "Which cures raise it where the decoder sees the pixels before?",
        "result": "annealing {differences[autoregressive: annealing][none][mean]:+.2f}, free bits "
        "{differences[autoregressive: free bits][none][mean]:+.2f}, aggressive "
        "{differences[autoregressive: aggressive][none][mean]:+.2f}, together "
        "{differences[autoregressive: together][none][mean]:+.2f}, near pixels "
        "{differences[autoregressive: near pixels][none][mean]:+.2f}, no pixels "
        "{differences[autoregressive: no pixels][none][mean]:+.2f} nats",
        "error": "{differences[autoregressive: annealing][none][se]:.2f}, "
        "{differences[autoregressive: free bits][none][se]:.2f}, "
        "{differences[autoregressive: aggressive][none][se]:.2f}, "
        "{differences[autoregressive: together][none][se]:.2f}, "
        "{differences[autoregressive: near pixels][none][se]:.2f}, "
        "{differences[autoregressive: no pixels][none][se]:.2f} (paired, over seeds)",
        "seeds": 3,
    },
]


def main() -> None:
    names = {f"{kind}: {arm}": (kind, arm) for kind, arms in ARMS.items() for arm in arms}
    source = test = None
    for name in shared.chosen(names, shared.read(RESULTS).get("parts", {}), __doc__):
        source = source if source is not None else data.load("mnist")
        test = test if test is not None else data.load("mnist", "test")
        shared.store(RESULTS, measure(*names[name], source, test), "parts", name, **HEAD)
        record = shared.read(RESULTS)
        parts = record["parts"]
        minutes = round(sum(part["cpu_minutes"] for part in parts.values()), 1)
        record |= {"cpu_minutes": minutes, "differences": differences(parts)}
        if parts.keys() == names.keys():
            record |= {"summary": SUMMARY, "command": "python -m experiments.measure_collapse"}
        shared.write(RESULTS, record)


if __name__ == "__main__":
    main()
