"""Measure rate, distortion and blur over beta: ``python -m experiments.measure_rate_distortion [PART ...]``.

Writes book/results/rate_distortion.json. Written before the first run:

Questions. (1) What does a weight beta from 0.1 to 10 on the KL do to rate, distortion, the ELBO and the log evidence,
with a Bernoulli likelihood, a Gaussian one with fixed sigma, and one with learned sigma? Is beta = 1 the best, by a
measure in which beta does not occur? (2) A saying has it that VAEs blur because of the Gaussian (or because of the
squared error). Is the blur of a reconstruction made by the likelihood, or by how little the code says about the
image?

Data. 10,000 MNIST training images drawn at random, grey pixels; 784-400-20; 12 epochs of chapter 9's recipe; seeds 0,
1, 2.
Arms. beta 0.1, 0.3, 1, 3, 10 with each of "bernoulli", "fixed" (Gaussian, sigma = 0.3) and "learned" (Gaussian).
Interventions for (2), with the squared error itself as the loss, no KL and no noise in z: "autoencoder 20" and
"autoencoder 2" (so few numbers say little). They change the code alone; "bernoulli" and "fixed" with equal rate
change the likelihood alone.
Same chance. Each likelihood has its own peak rate, chosen from RATES at beta = 1 by the -ELBO of 500 other training
images with seed 100; the autoencoders theirs by their squared error.

Measures. Rate (mean KL) and distortion (minus the mean log likelihood) of 2,000 test images, the -ELBO with weight 1,
L_200 of 200 test images (all four comparable within a likelihood alone), active units, sigma, squared error. Of blur:
sharpness of reconstructions and of new images, that is, the squared differences of neighbouring pixels as a share of
those of the test images; and the share of pixels between 0.1 and 0.9, as a ratio to that of the test images ("grey").
Calibration: test images, the same blurred with a 3x3 binomial filter, the mean image, noise, and the mean of the 10
nearest training images of each test image.

Yes for (1): -ELBO and L_200 at beta = 1 are better than at every other beta by more than 4.3 standard errors, paired
by seed.
Yes for "the likelihood makes the blur": at the same rate (linear interpolation between neighbouring betas, at the
rates that both reach) the sharpness of "bernoulli" and of "fixed" differ by more than the change that doubling the
rate makes within either. Yes for "the code makes it": "autoencoder 20", whose loss is the squared error, is sharper
than "fixed" at beta = 1 and than "autoencoder 2" by more than 4.3 standard errors.

Added when these results were known, in which a learned sigma did better with beta = 0.3 than with 1: "learned longer",
both with 36 epochs in the place of 12, at the rate chosen before. Is it that training with beta = 1 was not finished?
Yes, if beta = 0.3 is no longer better by more than 4.3 standard errors, in -ELBO and in L_200.
Added, too: at rates above 20 nats "bernoulli" was sharper than "fixed" at the same rate. These two differ in the loss
and in the decoder's last function, a sigmoid or none. "last function": autoencoders with 20 numbers and a sigmoid, with
the squared error ("sigmoid") and with the cross-entropy ("cross-entropy"). Is it the loss? Yes, if "cross-entropy" is
sharper than "sigmoid" by more than 4.3 standard errors, and by more than "sigmoid" is sharper than "autoencoder 20".

Added later, when all of the above were known, before it ran: the direct run. "sigmoid mean": the VAE of "fixed", a
Gaussian with sigma = 0.3, whose decoder's outputs go through a sigmoid as the Bernoulli's do; its own peak rate at
beta = 1; beta 1, 1.8 and 6, the latter two so that the rate lies near 24 and 12 nats (beta = 1.8 is sigma = 0.40, and 6
is 0.73). At its own rate the sharpness, and the share of grey pixels, of the Bernoulli are interpolated between
neighbouring betas of the same seed. Does the Gaussian blur more than the Bernoulli, when both decoders end in a
sigmoid? Yes, if its sharpness is less, or its share of grey pixels is more, by more than 4.3 standard errors, paired by
seed; no, if neither is. Does the last function matter? Yes, if at beta = 1 it is sharper than "fixed" by more than 4.3
standard errors. (One seed had been seen: sharper than both.)
"clipped": the runs of "fixed" at beta = 1 again, with reconstructions cut to [0, 1] before they are measured. A cut
decoder can hold a pixel at black. Is it as sharp as "sigmoid mean"? (One seed had been seen: less sharp than uncut.)

With OMP_NUM_THREADS=1 a part takes about four minutes, and everything about 25.
"""

import itertools
import statistics
import time
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from experiments import shared
from vaelib import data
from vaelib.evaluation import active_units, log_evidence
from vaelib.likelihoods import Gaussian
from vaelib.training import fit
from vaelib.vae import VAE

RESULTS = shared.results("rate_distortion")
IMAGES, HELD_OUT, EPOCHS, LATENT_DIM = 10_000, 500, 12, 20
BETAS = (0.1, 0.3, 1.0, 3.0, 10.0)
RATES = (2e-3, 5e-3, 1e-2)
SEEDS = (0, 1, 2)
TUNING_SEED = 100


class SigmoidMean(Gaussian):
    """A Gaussian whose means are the logistic function of what the decoder returns."""

    name = "gaussian"

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Return the log density."""
        return super().log_prob(x, torch.sigmoid(decoded))

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the means."""
        return torch.sigmoid(decoded)

    def start(self, mean: Tensor) -> Tensor:
        """Return the logits of a mean image."""
        return torch.logit(mean, eps=1e-3)


LIKELIHOODS: dict[str, dict[str, Any]] = {
    "bernoulli": {},
    "fixed": {"likelihood": "gaussian", "sigma": 0.3},
    "learned": {"likelihood": "gaussian", "sigma": "learned"},
}
AUTOENCODERS = {"autoencoder 20": 20, "autoencoder 2": 2, "sigmoid": 20, "cross-entropy": 20}
LAST = ("sigmoid", "cross-entropy")
LONGER = {"learned longer": (0.3, 1.0)}  # three times as many epochs
DIRECT = {"sigmoid mean": (1.0, 1.8, 6.0)}
PARTS = (*LIKELIHOODS, "autoencoders", "calibration", *LONGER, "last function", *DIRECT, "clipped")
SMOOTH = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])) / 16


def images_of(source: data.ImageData, test: data.ImageData) -> dict[str, Tensor]:
    """Return training, validation and test images, drawn at random."""
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))
    n, held_out = min(IMAGES, len(source) * 2 // 3), min(HELD_OUT, len(source) // 5)
    drawn = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    found = {"training": source.images[order[:n]], "validation": source.images[order[n : n + held_out]]}
    found |= {"test": test.images[drawn[:2000]]}
    return {name: images.flatten(1) for name, images in found.items()}


def weighted(beta: float) -> Any:
    """Return the objective of a beta-VAE."""

    def objective(model: Any, x: Tensor, y: Any, step: int, generator: torch.Generator) -> Any:
        return model.elbo(x, beta=beta, generator=generator, check=False)

    return objective


def squared(model: Any, x: Tensor, y: Any, step: int, generator: torch.Generator) -> Tensor:
    """Return minus the squared error of an autoencoder, whose code is the encoder's mean."""
    error: Tensor = (x - model.mean(model.decode(model.encode(x).mu))).square().sum(1)
    return -error


def cross_entropy(model: Any, x: Tensor, y: Any, step: int, generator: torch.Generator) -> Tensor:
    """Return minus the cross-entropy of such an autoencoder."""
    found: Tensor = model.log_likelihood(x, model.decode(model.encode(x).mu))
    return found


def train(arm: str, beta: float, images: Tensor, rate: float, seed: int, epochs: int = EPOCHS) -> VAE:
    """Train one arm; an autoencoder has no beta."""
    gaussian: dict[str, Any] = {} if arm in LAST else {"likelihood": "gaussian"}
    settings = {"likelihood": SigmoidMean(0.3)} if arm in DIRECT else LIKELIHOODS.get(arm, gaussian)
    model = VAE(images[0].numel(), (400,), AUTOENCODERS.get(arm, LATENT_DIM), seed=seed, **settings)
    objective = cross_entropy if arm == "cross-entropy" else squared if arm in AUTOENCODERS else weighted(beta)
    fit(model, images, epochs=epochs, learning_rate=rate, seed=seed, objective=objective, device="cpu", progress=False)
    return model


@torch.no_grad()
def loss(arm: str, model: VAE, x: Tensor) -> float:
    """Return by what a rate is chosen: the -ELBO, or an autoencoder's squared error."""
    if arm in AUTOENCODERS:
        return (model.reconstruct(x) - x).square().sum(1).mean().item()
    return -model.elbo(x, generator=torch.Generator().manual_seed(0)).elbo.mean().item()


def roughness(images: Tensor) -> float:
    """Return the mean squared difference of neighbouring pixels."""
    side = int(images[0].numel() ** 0.5)
    x = images.reshape(-1, side, side)
    return (x.diff(dim=1).square().mean() + x.diff(dim=2).square().mean()).item()


def grey(images: Tensor) -> float:
    """Return the share of pixels between 0.1 and 0.9."""
    return ((images > 0.1) & (images < 0.9)).float().mean().item()


def blur(images: Tensor, test: Tensor) -> dict[str, float]:
    """Return both measures of blur, as ratios to those of the test images; less sharpness or more grey is more blur."""
    return {
        "sharpness": round(roughness(images) / roughness(test), 4),
        "grey": round(grey(images) / grey(test), 4),
    }


@torch.no_grad()
def measured(arm: str, model: VAE, test: Tensor) -> dict[str, Any]:
    """Return the measures of one trained model."""
    x = model.check(test)
    means = model.reconstruct(test).flatten(1)
    found: dict[str, Any] = {"squared error": round((means - x).square().sum(1).mean().item(), 3)}
    if arm not in AUTOENCODERS:
        terms = model.elbo(test, n_samples=4, generator=torch.Generator().manual_seed(0))
        found |= {
            "rate": round(terms.kl.mean().item(), 3),
            "distortion": round(-terms.log_likelihood.mean().item(), 3),
            "-ELBO": round(-terms.elbo.mean().item(), 3),
            "L_200": round(log_evidence(model, test[:200], 200).mean().item(), 3),
            "active units": int(active_units(model, test).sum()),
            "new images": blur(model.sample(1000, generator=torch.Generator().manual_seed(0)), test),
        }
        if arm != "bernoulli":
            found["sigma"] = round(model.log_sigma.exp().item(), 4)
    return found | {"reconstructions": blur(means, test)}


def measure(arm: str, images: dict[str, Tensor], betas: tuple[float, ...]) -> dict[str, Any]:
    """Choose the rate of one likelihood at beta = 1, then train each beta with each seed."""
    validation = {}
    for rate in RATES:
        model = train(arm, 1.0, images["training"], rate, TUNING_SEED)
        validation[f"{rate:g}"] = round(loss(arm, model, images["validation"]), 3)
    best = float(min(validation, key=validation.__getitem__))
    print(arm, validation, flush=True)
    return {"validation": validation, "learning_rate": best, "runs": trained(arm, images, betas, best, EPOCHS)}


def trained(
    arm: str, images: dict[str, Tensor], betas: tuple[float, ...], rate: float, epochs: int
) -> dict[str, list[dict[str, Any]]]:
    """Train each beta with each seed, and return what was measured."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for beta in betas:
        for seed in SEEDS:
            model = train(arm, beta, images["training"], rate, seed, epochs)
            runs.setdefault(f"{beta:g}", []).append({"seed": seed, **measured(arm, model, images["test"])})
        print(arm, beta, runs[f"{beta:g}"][-1], flush=True)
    return runs


def clipped(images: dict[str, Tensor], rate: float) -> list[dict[str, Any]]:
    """Return both measures of blur of "fixed" at beta = 1, as it is and cut to [0, 1]."""
    found = []
    for seed in SEEDS:
        means = train("fixed", 1.0, images["training"], rate, seed).reconstruct(images["test"]).flatten(1)
        range_ = [round(each.item(), 3) for each in torch.aminmax(means)]
        uncut = blur(means, images["test"])["sharpness"]
        found.append({"seed": seed, **blur(means.clamp(0, 1), images["test"]), "uncut": uncut, "range": range_})
        print("clipped", found[-1], flush=True)
    return found


def calibration(images: dict[str, Tensor]) -> dict[str, Any]:
    """Return what the measures of blur say of images that are known."""
    training, test = images["training"], images["test"]
    side = int(test.shape[1] ** 0.5)
    smooth = conv2d(test.reshape(-1, 1, side, side), SMOOTH[None, None], padding=1)
    near = torch.cdist(test, training).topk(10, largest=False).indices
    known = {
        "test images": test,
        "blurred": smooth,
        "mean image": training.mean(0, keepdim=True),
        "noise": torch.rand(test.shape, generator=torch.Generator().manual_seed(0)),
        "mean of 10 neighbours": training[near].mean(1),
    }
    return {name: blur(x, test) for name, x in known.items()}


def paired(one: list[dict[str, Any]], other: list[dict[str, Any]], measure: str) -> dict[str, float]:
    """Return mean and standard error of a measure of one arm minus another's, paired by seed."""
    pairs = [a[measure] - b[measure] for a, b in zip(one, other, strict=True)]
    return {"mean": round(statistics.mean(pairs), 4), "se": round(statistics.stdev(pairs) / len(pairs) ** 0.5, 4)}


def differences(parts: dict[str, Any]) -> dict[str, Any]:
    """Return -ELBO and L_200 of each beta minus those of beta = 1, and the sharpness that the interventions change."""
    found: dict[str, Any] = {}
    for arm in (each for each in (*LIKELIHOODS, *LONGER) if each in parts):
        runs = parts[arm]["runs"]
        if "1" in runs:
            found[arm] = {
                beta: {each: paired(runs[beta], runs["1"], each) for each in ("-ELBO", "L_200")}
                for beta in runs
                if beta != "1"
            }
    for arm in (each for each in DIRECT if {each, "bernoulli", "fixed"} <= parts.keys()):
        found[arm] = {beta: beside(runs, parts["bernoulli"]["runs"]) for beta, runs in parts[arm]["runs"].items()}
        one, other = ([run["reconstructions"] for run in parts[each]["runs"]["1"]] for each in (arm, "fixed"))
        found[arm]["1"]["minus fixed"] = {each: paired(one, other, each) for each in ("sharpness", "grey")}
    if {"clipped", "fixed"} <= parts.keys():
        other = [run["reconstructions"] for run in parts["fixed"]["runs"]["1"]]
        found["clipped"] = {each: paired(parts["clipped"]["runs"], other, each) for each in ("sharpness", "grey")}
    if {"fixed", "autoencoders"} <= parts.keys():
        sharp = {"fixed": parts["fixed"]["runs"]["1"]}
        of = {name: parts[name] for name in ("autoencoders", "last function") if name in parts}
        sharp |= {
            name: each["runs"]["1"] for part in of.values() for name, each in part.items() if name in AUTOENCODERS
        }
        flat = {name: [run["reconstructions"] for run in runs] for name, runs in sharp.items()}
        pairs = [("autoencoder 20", "fixed"), ("autoencoder 20", "autoencoder 2")]
        pairs += [("sigmoid", "autoencoder 20"), ("cross-entropy", "sigmoid")] if len(of) > 1 else []
        found["sharpness"] = {f"{a} - {b}": paired(flat[a], flat[b], "sharpness") for a, b in pairs}
    return found


def beside(runs: list[dict[str, Any]], other: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return both measures of blur minus those of another likelihood at each run's rate, interpolated, same seed."""
    found: dict[str, Any] = {"rate": round(statistics.mean(run["rate"] for run in runs), 3)}
    for each in ("sharpness", "grey"):
        pairs = []
        for seed, run in enumerate(runs):
            level = at_rate({beta: [several[seed]] for beta, several in other.items()}, run["rate"], each)
            assert level is not None
            pairs.append(run["reconstructions"][each] - level)
        se = statistics.stdev(pairs) / len(pairs) ** 0.5
        found[each] = {"mean": round(statistics.mean(pairs), 4), "se": round(se, 4)}
    return found


def at_rate(runs: dict[str, list[dict[str, Any]]], rate: float, measure: str = "sharpness") -> float | None:
    """Return a measure of reconstructions at a rate, between the two betas around it; None beyond the measured."""
    points = sorted(
        (
            statistics.mean(run["rate"] for run in each),
            statistics.mean(run["reconstructions"][measure] for run in each),
        )
        for each in runs.values()
    )
    for (low, below), (high, above) in itertools.pairwise(points):
        if low <= rate <= high and high > low:
            return below + (above - below) * (rate - low) / (high - low)
    return None


HEAD = {
    "question": "What does beta do to rate, distortion and log evidence, and is blur made by the likelihood or by the "
    "code?",
    "rivals": "a Bernoulli, a Gaussian with sigma = 0.3 and one with learned sigma; autoencoders with the squared "
    "error and 20 or 2 numbers",
    "tuning": "each likelihood its peak rate at beta = 1, by the -ELBO of 500 other training images with seed 100: "
    "0.002, 0.005, 0.01; the autoencoders by their squared error",
    "evaluation": "2,000 grey MNIST test images drawn at random; four draws of z; L_200 of the first 200 of them",
    "yes": "(1) beta = 1 better than each other beta by 4.3 standard errors, paired over three seeds; (2) see the "
    "script",
}
SUMMARY = [
    {
        "question": "What does beta = 10 or 0.1 lose by the log evidence, with Bernoulli pixels?",
        "result": "L_200 minus that of beta = 1: {differences[bernoulli][10][L_200][mean]:+.1f} at 10, "
        "{differences[bernoulli][0.1][L_200][mean]:+.1f} at 0.1 nats",
        "error": "{differences[bernoulli][10][L_200][se]:.1f}, {differences[bernoulli][0.1][L_200][se]:.1f} (paired, "
        "over seeds)",
        "seeds": 3,
    },
    {
        "question": "Does a Gaussian blur more than a Bernoulli where both decoders end in a sigmoid?",
        "result": "sharpness minus that of the Bernoulli at the same rate: {differences[sigmoid mean][1.8]"
        "[sharpness][mean]:+.3f} at {differences[sigmoid mean][1.8][rate]:.0f} nats, "
        "{differences[sigmoid mean][6][sharpness][mean]:+.3f} at {differences[sigmoid mean][6][rate]:.0f}",
        "error": "{differences[sigmoid mean][1.8][sharpness][se]:.3f}, "
        "{differences[sigmoid mean][6][sharpness][se]:.3f} (paired, over seeds)",
        "seeds": 3,
    },
    {
        "question": "Is blur made by the squared error or by the code?",
        "result": "sharpness of an autoencoder with squared error and 20 numbers minus that of a VAE with sigma = 0.3: "
        "{differences[sharpness][autoencoder 20 - fixed][mean]:+.2f}; minus that of an autoencoder with 2 numbers: "
        "{differences[sharpness][autoencoder 20 - autoencoder 2][mean]:+.2f}",
        "error": "{differences[sharpness][autoencoder 20 - fixed][se]:.3f}, "
        "{differences[sharpness][autoencoder 20 - autoencoder 2][se]:.3f} (paired, over seeds)",
        "seeds": 3,
    },
]


def main() -> None:
    images = None
    for name in shared.chosen(PARTS, shared.read(RESULTS).get("parts", {}), __doc__):
        images = images or images_of(data.load("mnist"), data.load("mnist", "test"))
        began = time.process_time()
        if name == "calibration":
            found = calibration(images)
        elif name == "autoencoders":
            found = {arm: measure(arm, images, (1.0,)) for arm in AUTOENCODERS if arm not in LAST}
        elif name == "last function":
            found = {arm: measure(arm, images, (1.0,)) for arm in LAST}
        elif name in DIRECT:
            found = measure(name, images, DIRECT[name])
        elif name == "clipped":
            rate = shared.read(RESULTS)["parts"]["fixed"]["learning_rate"]
            found = {"learning_rate": rate, "runs": clipped(images, rate)}
        elif name in LONGER:
            arm = name.partition(" ")[0]
            rate = shared.read(RESULTS)["parts"][arm]["learning_rate"]
            found = {"learning_rate": rate, "runs": trained(arm, images, LONGER[name], rate, 3 * EPOCHS)}
        else:
            found = measure(name, images, BETAS)
        found |= {
            "seeds": list(SEEDS),
            "cpu_minutes": round((time.process_time() - began) / 60, 2),
            "command": f'python -m experiments.measure_rate_distortion "{name}"',
            "provenance": shared.provenance(),
        }
        shared.store(RESULTS, found, "parts", name, **HEAD)
        record = shared.read(RESULTS)
        parts = record["parts"]
        minutes = round(sum(part["cpu_minutes"] for part in parts.values()), 1)
        record |= {"cpu_minutes": minutes, "differences": differences(parts)}
        if parts.keys() == set(PARTS):
            record |= {"summary": SUMMARY, "command": "python -m experiments.measure_rate_distortion"}
        shared.write(RESULTS, record)


if __name__ == "__main__":
    main()
