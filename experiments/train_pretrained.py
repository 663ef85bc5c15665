"""Train the models that ship with vaelib, and record how: ``python -m experiments.train_pretrained [NAME ...]``.

Writes vaelib/weights/NAME.safetensors (float16) and NAME.json (command, seed, versions, device, date, test ELBO). The
models of chapter 10, mnist-50d-vae and mnist-50d-iwae, train for about half an hour each on one core, with
OMP_NUM_THREADS=1; the record holds their learning curves. Those of chapter 19, scene and scene-cvae, take
ten minutes and seven.
"""

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import vaelib
from experiments import shared
from experiments.measure_quadrants import split
from vaelib import checkpoints, data, evaluation, latent, pretrained
from vaelib.cvae import CVAE
from vaelib.distributions import kl_standard_normal
from vaelib.training import choose_device, fit
from vaelib.vae import VAE

WEIGHTS = Path(vaelib.__file__).parent / "weights"
SEED = 0
BURDA: dict[str, Any] = {"hidden_dims": (200, 200), "latent_dim": 50, "activation": "tanh"}
MODELS: dict[str, dict[str, Any]] = {
    # The decoder of the explorer: two dimensions to see, wide enough to draw well.
    "mnist-2d": {"hidden_dims": (500,), "latent_dim": 2, "activation": "tanh", "epochs": 50, "learning_rate": 3e-3},
    "mnist-20d": {"hidden_dims": (400,), "latent_dim": 20, "activation": "relu", "epochs": 20, "learning_rate": 3e-3},
    # The network of Burda et al. (2016), for half an hour on one core. Rates and batch sizes were compared on
    # 5,000 validation images in short runs.
    "mnist-50d-vae": {**BURDA, "epochs": 540, "learning_rate": 1.5e-3, "batch_size": 100, "k": 1},
    "mnist-50d-iwae": {**BURDA, "epochs": 27, "learning_rate": 2e-3, "batch_size": 20, "k": 50},
    # The class-conditional models of chapter 11.
    "mnist-cvae-2d": {
        "condition_dim": 10,
        "hidden_dims": (500,),
        "latent_dim": 2,
        "activation": "tanh",
        "epochs": 50,
        "learning_rate": 3e-3,
    },
    "mnist-cvae-20d": {
        "condition_dim": 10,
        "hidden_dims": (400,),
        "latent_dim": 20,
        "activation": "relu",
        "epochs": 20,
        "learning_rate": 3e-3,
    },
    # The model of chapter 12: three quadrants of an image given the bottom left one.
    "mnist-quadrant": {
        "quadrants": 1,
        "data_dim": 588,
        "condition_dim": 196,
        "hidden_dims": (400,),
        "latent_dim": 30,
        "prior": "conditional",
        "activation": "relu",
        "epochs": 10,
        "learning_rate": 5e-3,
    },
    # The camera of chapter 19. The likelihood was chosen by bits on 2,000 pictures of the training set, after 6 epochs
    # of 8,000 others, one run each: 6.36, and 6.56 of a Gaussian whose sigma was learned from 0.08 on, with uniform
    # noise of one level on each number.
    "scene": {
        "data": "scene",
        "data_dim": (3, 32, 32),
        "hidden_dims": (),
        "channels": (24, 48, 64),
        "latent_dim": 10,
        "likelihood": "discretised_logistic",
        "epochs": 30,
        "learning_rate": 2e-3,
        "batch_size": 64,
    },
    # The model of chapter 19 that is told the camera's azimuth, as its cosine and sine. It is Gaussian, since its
    # pictures are compared with the truth by squared errors.
    "scene-cvae": {
        "data": "scene",
        "data_dim": (3, 32, 32),
        "condition_dim": 2,
        "hidden_dims": (),
        "channels": (24, 48, 64),
        "latent_dim": 10,
        "likelihood": "gaussian",
        "sigma": "learned",
        "activation": "relu",
        "epochs": 24,
        "learning_rate": 3e-3,
        "batch_size": 64,
    },
}
NAMES = {"mnist": "MNIST test images", "scene": "test pictures of the scene"}
_TRAINING = ("epochs", "learning_rate", "batch_size")
START_SIGMA = 0.1  # of the scene's pixels: from 1 it takes a learned sigma thousands of steps


class Curve:
    """The objective L_k of a model, which notes L_50 of 1,000 binarised test images as training goes on."""

    POINTS = 40

    def __init__(self, k: int, test: data.ImageData, steps: int) -> None:
        self.k, self.every = k, max(1, steps // self.POINTS)
        self.images = data.binarize(test.images[:1000], torch.Generator().manual_seed(SEED))
        self.points: list[dict[str, float]] = []
        self.start = time.process_time()
        self.aside = 0.0

    def __call__(self, model: VAE, x: Tensor, y: Tensor | None, step: int, generator: torch.Generator) -> Tensor:
        if step % self.every == 0:
            self.note(model, step)
        if self.k == 1:
            return model.elbo(x, generator=generator, check=False).elbo
        return model.iwae_bound(x, self.k, generator, check=False)

    def note(self, model: VAE, step: int) -> None:
        begin = time.process_time()
        bound = evaluation.log_evidence(model, self.images.to(next(model.parameters()).device), 50).mean().item()
        now = time.process_time()
        self.points.append(
            {"steps": step, "minutes": round((begin - self.start - self.aside) / 60, 2), "test_l50": round(bound, 3)}
        )
        self.aside += now - begin


def train(name: str) -> None:
    settings = dict(MODELS[name])
    training = {key: settings.pop(key) for key in _TRAINING if key in settings}
    training.setdefault("batch_size", 128)
    k, quadrants = settings.pop("k", None), settings.pop("quadrants", None)
    source = settings.pop("data", "mnist")
    train_data, test_data = data.load(source), data.load(source, "test")
    model = pretrained.build({"data_dim": 784, "likelihood": "bernoulli", **settings}, seed=SEED)
    record: dict[str, Any] = {"command": f"python -m experiments.train_pretrained {name}"}
    began = time.process_time()
    if k is None:
        x, y = examples(model, train_data, quadrants)
        if model.likelihood == "gaussian":
            with torch.no_grad():
                model.log_sigma.fill_(math.log(START_SIGMA))
        fit(model, x, y=y, seed=SEED, device="auto", **training)
        how = "grey pixels, not binarised"
        if source == "scene":
            how = "colours in 256 levels without noise, a bound on the log probability"
            if model.likelihood == "gaussian":
                training["start_sigma"] = START_SIGMA
                how = "colours in 256 levels without noise, a bound on a log density"
        if quadrants is not None:
            training["quadrants"] = quadrants
            how = f"unseen pixels given {quadrants} of 4 quadrants, {how}"
    else:
        steps = -(-len(train_data) // training["batch_size"]) * training["epochs"]
        curve = Curve(k, test_data, steps)
        fit(model, train_data, objective=curve, transform=data.binarize, seed=SEED, device="auto", **training)
        assert isinstance(model, VAE)
        curve.note(model, steps)
        training["k"] = k
        how = "pixels binarised at random, once"
        record["curve"] = {
            "what": "L_50 in nats per image of 1,000 test images, binarised at random once; CPU minutes of training",
            "points": curve.points,
        }
    minutes = (time.process_time() - began) / 60
    if source == "scene":
        assert isinstance(model, VAE)
        record["kl_saved"] = round(standardise(model, train_data), 2)
    # The rounded weights are what ships, so they are what is measured.
    WEIGHTS.mkdir(exist_ok=True)
    path = WEIGHTS / f"{name}.safetensors"
    checkpoints.save(path, model.half(), config=model.config)
    shipped = pretrained.load(name)
    record |= {
        "settings": {**model.config, **training, "seed": SEED},
        "test_elbo": round(recorded_elbo(shipped, test_data, k is not None, quadrants), 3),
        "evaluation": f"{len(test_data):,} {NAMES[source]}, {how}, z sampled once, nats per image",
        "bytes": path.stat().st_size,
        **shared.provenance(choose_device()),
    }
    if source != "mnist":
        record["settings"]["data"] = source
        # A probability of each level needs no noise: the bits are a bound. Of a density without noise they are an
        # approximation (see `evaluation.bits_per_dimension`).
        record["test_bits_per_dimension"] = round(recorded_bits(shipped, record["test_elbo"]), 4)
        record["cpu_minutes"] = round(minutes, 1)
    shared.write(WEIGHTS / f"{name}.json", record)
    print(f"{name}: test -ELBO {-record['test_elbo']:.2f}, {record['bytes'] / 1e6:.2f} MB")


@torch.no_grad()
def standardise(model: VAE, images: data.ImageData) -> float:
    """Give q(z), the mean of all q(z|x), mean 0 and variance 1 in each dimension; return the nats of KL that it saves.

    ``z' = (z - m) / s``: the encoder's last layer does it, the decoder's first undoes it, so that p(x|z) is as before.
    After ten minutes of training s was still 0.2 to 0.6: the 6 nats are few beside the 9,600 of log p(x|z), and the
    prior drew codes from where there were none. Added when that had been seen.
    """
    mu, log_var = latent.encode_dataset(model, images)
    mean, std = mu.mean(0), (mu.var(0) + log_var.exp().mean(0)).sqrt()
    last, first = model.encoder[-1], model.decoder[0]  # type: ignore[index]
    first.bias += first.weight @ mean
    first.weight *= std
    last.bias -= torch.cat([mean, 2 * std.log()])
    for each in (last.weight, last.bias):
        each[: len(mean)] /= std if each.ndim == 1 else std[:, None]
    now = latent.encode_dataset(model, images)
    return float((kl_standard_normal(mu, log_var) - kl_standard_normal(*now)).mean())


def recorded_elbo(model: VAE | CVAE, test: data.ImageData, binarised: bool, quadrants: int | None = None) -> float:
    """Return the ELBO of the test images as a record states it."""
    x, y = examples(model, test, quadrants)
    return evaluation.mean_elbo(model, data.binarize(x, torch.Generator().manual_seed(SEED)) if binarised else x, y)


def recorded_bits(model: VAE | CVAE, nats: float) -> float:
    """Return a record's bits per dimension from its test ELBO."""
    return evaluation.bits_per_dimension(model, nats, levels=256 if model.likelihood == "gaussian" else None)


def examples(model: VAE | CVAE, images: data.ImageData, quadrants: int | None = None) -> tuple[Tensor, Tensor | None]:
    """Return what is modelled and its condition: none, classes, the pixels that are seen, or the azimuth's circle."""
    if quadrants is not None:
        return split(images.images, quadrants)
    if images.factors is not None and isinstance(model, CVAE):
        return images.images, torch.stack([images.factors[:, 0].cos(), images.factors[:, 0].sin()], 1)
    return images.images, images.labels if isinstance(model, CVAE) else None


def main() -> None:
    """Train the models that the command line names, or all of them."""
    stored = {name: pretrained.record(name) for name in pretrained.names()}
    for name in shared.chosen(MODELS, stored, __doc__, choose_device()):
        train(name)


if __name__ == "__main__":
    main()
