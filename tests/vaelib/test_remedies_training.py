"""Every remedy that models, training, evaluation and figures name: triggered, obeyed to the letter, and it helps.

A row gives what a reader does, the error or warning with the remedy in its words, and the same with the remedy obeyed,
which must run without another error or warning. The remedies of data and of checkpoints have modules of their own.
"""

import math
import warnings
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.sparse
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from vaelib import data, distributions, evaluation, figures, latent
from vaelib.autoencoder import Autoencoder
from vaelib.contract import ElboTerms
from vaelib.cvae import CVAE
from vaelib.data import ImageData
from vaelib.likelihoods import Bernoulli, DiscretisedLogistic, Gaussian
from vaelib.training import TrainingError, fit
from vaelib.vae import VAE

X = torch.sigmoid(torch.randn(40, 16, generator=torch.Generator().manual_seed(0)))
DIGITS = (X * 16).round()  # 0 to 16, as scikit-learn's digits
BYTES = (X * 255).round()
CLASSES = torch.arange(40) % 3
COLOUR = torch.rand(6, 3, 4, 5, generator=torch.Generator().manual_seed(0))
PICTURES = [Image.new("L", (4, 4), value) for value in range(0, 250, 10)]


def vae(**options: Any) -> VAE:
    return VAE(16, (8,), 2, **options)


def cvae(classes: int = 3, **options: Any) -> CVAE:
    return CVAE(16, classes, (8,), 2, **options)


def train(model: Any, x: Any = X, **options: Any):
    return fit(model, x, **{"epochs": 1, "batch_size": 16, "device": "cpu", "progress": False} | options)


def elbo(x: Any) -> Tensor:
    return vae().elbo(x).elbo


class Network(nn.Module):
    """One linear layer, whose result goes through a function."""

    def __init__(self, inputs: int, outputs: int, function: Any = lambda out: out) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(inputs, outputs), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.layer(x))


class Own(nn.Module):
    """A model of the reader's own with one weight, as little as `fit` can train."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 1)


class WithElbo(Own):
    def elbo(self, x, y=None, *, generator=None):
        return -self.layer(x).square().squeeze(1)


class WithLoss(Own):
    def loss(self, x):
        return self.layer(x).square().squeeze(1)


class DataFrame:
    """Stands for one of pandas, which the book does not need."""

    def to_numpy(self, dtype=None):
        return X.numpy().astype(dtype)


class Series(DataFrame):
    def to_numpy(self, dtype=None):
        return CLASSES.numpy()


class Plain:
    """A likelihood of the reader's own, whose log_prob may lack its sum."""

    name = "plain"

    def __init__(self, sums: bool) -> None:
        self.sums = sums

    def log_prob(self, x, decoded):
        found = -(x - decoded).square()
        return found.sum(-1) if self.sums else found

    def mean(self, decoded):
        return decoded

    def sample(self, decoded, generator=None):
        return decoded

    def check(self, x):
        pass


def normed(width: int = 16) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))


def lazy() -> VAE:
    return vae(encoder=nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 4)))


def looked_at(model: VAE) -> VAE:
    model.elbo(X[:2])
    return model


def objects(array: np.ndarray) -> np.ndarray:
    rows = np.empty(len(array), dtype=object)
    rows[:] = list(array)
    return rows


LOADER = DataLoader(TensorDataset(X), batch_size=16)
MASKED = np.ma.masked_greater(X.numpy(), 0.5)
OTHER = vae()
OWN = ImageData("own", X.view(-1, 4, 4), CLASSES)

# What a reader does; the error and its words; what obeying it makes of the call.
ERRORS: dict[str, tuple[Any, type[Exception], str, Any]] = {
    # images in every form
    "a loader": (
        *(lambda: train(vae(), LOADER), TypeError, r"images = torch.cat\(\[batch for batch, \*_ in loader\]\)"),
        lambda: train(vae(), torch.cat([batch for batch, *_ in LOADER])),
    ),
    "a data set": (
        *(lambda: train(vae(), LOADER.dataset), TypeError, r"torch.stack\(\[image for image, \*_ in dataset\]\)"),
        lambda: train(vae(), torch.stack([image for image, *_ in LOADER.dataset])),
    ),
    "a frame": (
        *(lambda: train(vae(), DataFrame()), TypeError, r"frame.to_numpy\(dtype='float32'\)"),
        lambda: train(vae(), DataFrame().to_numpy(dtype="float32")),
    ),
    "a series of conditions": (
        *(lambda: train(cvae(), y=Series()), TypeError, r"conditions are a Series; give its numbers: series.to_numpy"),
        lambda: train(cvae(), y=Series().to_numpy()),
    ),
    "a list of tensors": (
        *(lambda: evaluation.mean_elbo(vae(), list(X)), TypeError, r"torch.stack\(images\)"),
        lambda: evaluation.mean_elbo(vae(), torch.stack(list(X))),
    ),
    "a list of arrays": (
        *(lambda: evaluation.mean_elbo(vae(), list(X.numpy())), TypeError, r"numpy.stack\(images\)"),
        lambda: evaluation.mean_elbo(vae(), np.stack(list(X.numpy()))),
    ),
    "a list of pictures": (
        lambda: evaluation.mean_elbo(vae(), PICTURES),
        TypeError,
        r"numpy.stack\(\[numpy.asarray\(each.convert\('L'\)\) for each in images\]\) / 255",
        lambda: evaluation.mean_elbo(vae(), np.stack([np.asarray(each.convert("L")) for each in PICTURES]) / 255),
    ),
    "a masked array": (
        *(lambda: train(vae(), MASKED), TypeError, r"a MaskedArray; say what is to stand .* call .filled\(0\)"),
        lambda: train(vae(), MASKED.filled(0)),
    ),
    "a masked array to a model": (
        *(lambda: elbo(MASKED), TypeError, r"call .filled\(0\)"),
        lambda: elbo(MASKED.filled(0)),
    ),
    "masked conditions": (
        lambda: train(cvae(), y=np.ma.masked_equal(CLASSES.numpy(), 2)),
        TypeError,
        r"conditions are a MaskedArray.*call .filled\(0\)",
        lambda: train(cvae(), y=np.ma.masked_equal(CLASSES.numpy(), 2).filled(0)),
    ),
    "objects": (
        *(lambda: train(vae(), X.numpy().astype(object)), TypeError, r"of it: images.astype\('float32'\)"),
        lambda: train(vae(), X.numpy().astype(object).astype("float32")),
    ),
    "objects to a model": (
        *(lambda: elbo(X.numpy().astype(object)), TypeError, r"images.astype\('float32'\)"),
        lambda: elbo(X.numpy().astype(object).astype("float32")),
    ),
    "objects that are arrays": (
        *(lambda: elbo(objects(X.numpy())), TypeError, r"make one array of those that it holds: numpy.stack\(images\)"),
        lambda: elbo(np.stack(objects(X.numpy()))),
    ),
    "a sparse tensor": (
        *(lambda: elbo(X.to_sparse()), TypeError, r"a sparse tensor; make an ordinary one of it: call .to_dense\(\)"),
        lambda: elbo(X.to_sparse().to_dense()),
    ),
    "a sparse matrix": (
        *(lambda: train(vae(), scipy.sparse.csr_matrix(X.numpy())), TypeError, r"a csr_matrix.*call .toarray\(\)"),
        lambda: train(vae(), scipy.sparse.csr_matrix(X.numpy()).toarray()),
    ),
    "complex numbers": (
        *(lambda: elbo(torch.complex(X, X) / 2), TypeError, r"images are complex numbers.*call abs\(\) on them"),
        lambda: elbo(abs(torch.complex(X, X) / 2)),
    ),
    "complex numbers in an array": (
        *(lambda: train(vae(), X.numpy() * (1 + 0j)), TypeError, r"complex numbers.*call abs\(\) on them"),
        lambda: train(vae(), abs(X.numpy() * (1 + 0j))),
    ),
    "ImageData to a model": (
        *(lambda: vae().elbo(OWN), TypeError, "an ImageData; give its images, data.images"),
        lambda: vae().elbo(OWN.images),
    ),
    "images that require a gradient": (
        *(lambda: train(vae(), X.clone().requires_grad_()), ValueError, r"call images.detach\(\)"),
        lambda: train(vae(), X.clone().requires_grad_().detach()),
    ),
    "conditions that require a gradient": (
        lambda: train(cvae(1), y=X[:, :1].clone().requires_grad_()),
        ValueError,
        r"call conditions.detach\(\)",
        lambda: train(cvae(1), y=X[:, :1].clone().requires_grad_().detach()),
    ),
    # pixels of every scale
    "bytes": (
        *(lambda: elbo(BYTES.to(torch.uint8)), ValueError, "uint8: convert them to float and divide by 255"),
        lambda: elbo(BYTES.to(torch.uint8).float() / 255),
    ),
    "digits of 16 bits without a sign": (
        *(lambda: elbo(DIGITS.numpy().astype("uint16")), ValueError, "uint16: convert them to float and divide by 16,"),
        lambda: elbo(DIGITS.numpy().astype("uint16").astype("float32") / 16),
    ),
    "16 bits": (
        *(lambda: elbo((X * 65535).numpy().astype("uint16")), ValueError, "convert them to float and divide by 65535"),
        lambda: elbo((X * 65535).numpy().astype("uint16").astype("float32") / 65535),
    ),
    "12 bits in 32": (
        *(lambda: elbo((X * 2**20).int()), ValueError, "convert them to float and divide by their largest possible"),
        lambda: elbo((X * 2**20).int().float() / 2**20),
    ),
    "signed bytes that have wrapped": (
        lambda: elbo(BYTES.to(torch.uint8).view(torch.int8)),
        ValueError,
        r"bytes above 127 have become negative: x.view\(torch.uint8\).float\(\) / 255",
        lambda: elbo(BYTES.to(torch.uint8).view(torch.int8).view(torch.uint8).float() / 255),
    ),
    "signed bytes": (
        *(lambda: elbo((X * 127).to(torch.int8)), ValueError, "int8: convert them to float and divide by 127"),
        lambda: elbo((X * 127).to(torch.int8).float() / 127),
    ),
    "whole numbers below zero": (
        *(lambda: elbo(torch.arange(-8, 8)[None]), ValueError, r"bring them to \[0, 1\]: \(x.float\(\) - -8\) / 15"),
        lambda: elbo((torch.arange(-8, 8)[None].float() - -8) / 15),
    ),
    "zeros and ones": (
        *(lambda: elbo((X > 0.5).long()), ValueError, r"leave them as they are: x.float\(\)"),
        lambda: elbo((X > 0.5).long().float()),
    ),
    "bytes to a model of one's own": (
        *(lambda: train(WithLoss(), BYTES.byte()), ValueError, "uint8: convert them to float and divide by 255"),
        lambda: train(WithLoss(), BYTES.byte().float() / 255),
    ),
    "bytes to the bound of one's own": (
        *(lambda: evaluation.mean_elbo(WithElbo(), BYTES.byte()), ValueError, "convert them to float and divide"),
        lambda: evaluation.mean_elbo(WithElbo(), BYTES.byte().float() / 255),
    ),
    "floats to 255": (lambda: elbo(BYTES), ValueError, "beyond 1: divide by 255", lambda: elbo(BYTES / 255)),
    "resized to 255": (lambda: elbo(X * 250), ValueError, "beyond 1: divide by 255", lambda: elbo(X * 250 / 255)),
    "floats to 16": (lambda: elbo(DIGITS), ValueError, "beyond 1: divide by 16", lambda: elbo(DIGITS / 16)),
    "minus one to one": (
        *(lambda: elbo(2 * X - 1), ValueError, r"a Bernoulli likelihood needs \[0, 1\]; for \[-1, 1\] use \(x \+ 1\)"),
        lambda: elbo((2 * X - 1 + 1) / 2),
    ),
    "standardised": (
        *(lambda: elbo((X - 0.5) / 0.2), ValueError, r"for standardised pixels x \* std \+ mean"),
        lambda: elbo((X - 0.5) / 0.2 * 0.2 + 0.5),
    ),
    "standardised, the other way out": (
        *(lambda: elbo((X - 0.5) / 0.2), ValueError, "or choose likelihood='gaussian'"),
        lambda: vae(likelihood="gaussian").elbo((X - 0.5) / 0.2),
    ),
    # shapes
    "channels last": (
        lambda: VAE((3, 4, 5), (8,), 2).elbo(COLOUR.permute(0, 2, 3, 1)),
        ValueError,
        r"The channels come last in yours: call x.permute\(0, 3, 1, 2\)$",
        lambda: VAE((3, 4, 5), (8,), 2).elbo(COLOUR.permute(0, 2, 3, 1).permute(0, 3, 1, 2)),
    ),
    "channels last, a model of pixels": (
        lambda: VAE(60, (8,), 2).elbo(COLOUR.permute(0, 2, 3, 1)),
        ValueError,
        r"call x.permute\(0, 3, 1, 2\), and make the model with data_dim=\(3, 4, 5\)",
        lambda: VAE((3, 4, 5), (8,), 2).elbo(COLOUR.permute(0, 2, 3, 1).permute(0, 3, 1, 2)),
    ),
    "one channel last": (
        *(lambda: elbo(X.view(-1, 4, 4, 1)), ValueError, r"call x.permute\(0, 3, 1, 2\)$"),
        lambda: elbo(X.view(-1, 4, 4, 1).permute(0, 3, 1, 2)),
    ),
    "channels first, a model with channels last": (
        lambda: VAE((4, 5, 3), (8,), 2).elbo(COLOUR),
        ValueError,
        r"The channels come first in yours, as they should: make the model with data_dim=\(3, 4, 5\)",
        lambda: VAE((3, 4, 5), (8,), 2).elbo(COLOUR),
    ),
    "channels first, a model of pixels": (
        lambda: VAE(36, (8,), 2).elbo(COLOUR[..., :3]),
        ValueError,
        r"H x W = 36. For images in colour make the model with data_dim=\(3, 4, 3\)",
        lambda: VAE((3, 4, 3), (8,), 2).elbo(COLOUR[..., :3]),
    ),
    # models
    "a width alone": (
        *(lambda: VAE(16, 8, 2), ValueError, r"a sequence of widths, such as \(400,\) for one hidden layer, not 8"),
        lambda: VAE(16, (8,), 2),
    ),
    "a width alone, without a bound": (
        *(lambda: Autoencoder(16, 8, 2), ValueError, r"such as \(400,\) for one hidden layer, not 8"),
        lambda: Autoencoder(16, (8,), 2),
    ),
    "an activation that is a layer": (
        *(lambda: vae(activation=nn.ReLU()), ValueError, "choose one of relu, tanh, leaky_relu"),
        lambda: vae(activation="relu"),
    ),
    "an activation in a list": (
        *(lambda: vae(activation=["tanh"]), ValueError, "choose one of relu, tanh"),
        lambda: vae(activation="tanh"),
    ),
    "a class as a model": (
        *(lambda: train(WithLoss), TypeError, r"WithLoss is a class: give a model that is made from it, WithLoss\("),
        lambda: train(WithLoss()),
    ),
    "a class as a model that is evaluated": (
        *(lambda: evaluation.log_evidence(VAE, X, 3), TypeError, r"VAE is a class: give a model"),
        lambda: evaluation.log_evidence(vae(), X, 3),
    ),
    "a class as a model with an objective": (
        lambda: train(WithElbo, objective=lambda m, x, y, s, g: m.elbo(x)),
        TypeError,
        "WithElbo is a class",
        lambda: train(WithElbo(), objective=lambda m, x, y, s, g: m.elbo(x)),
    ),
    "the data before the model": (
        *(lambda: fit(X, vae(), epochs=1), TypeError, "the model, which comes first, must be an nn.Module"),
        lambda: train(vae(), X),
    ),
    "a class as a likelihood": (
        *(lambda: vae(likelihood=Bernoulli), TypeError, r"Bernoulli is a class: give an object of it, Bernoulli\(\)"),
        lambda: vae(likelihood=Bernoulli()),
    ),
    "a class as a network": (
        *(lambda: vae(encoder=nn.Linear), TypeError, "encoder must be an nn.Module.* a class: give an object of it"),
        lambda: vae(encoder=nn.Linear(16, 4)),
    ),
    "an unknown likelihood": (
        *(lambda: vae(likelihood="poisson"), ValueError, r"give an object such as vaelib.likelihoods.DiscretisedLogis"),
        lambda: vae(likelihood=DiscretisedLogistic()),
    ),
    "a sigma without a Gaussian": (
        *(lambda: vae(sigma=0.5), ValueError, "sigma=0.5 belongs to likelihood='gaussian'"),
        lambda: vae(sigma=0.5, likelihood="gaussian"),
    ),
    "a sigma that is an array": (
        *(lambda: Gaussian(np.array([0.5, 0.5])), ValueError, "sigma must be a positive number or 'learned'"),
        lambda: Gaussian("learned"),
    ),
    "two heads": (
        lambda: vae(encoder=Network(16, 4, lambda out: out.chunk(2, 1))).encode(X),
        ValueError,
        r"returns a tuple, not torch.cat\(\[mu, log_var\], 1\)",
        lambda: vae(encoder=Network(16, 4, lambda out: torch.cat(out.chunk(2, 1), 1))).encode(X),
    ),
    "a sigmoid at the end": (
        lambda: vae(decoder=nn.Sequential(nn.Linear(2, 16), nn.Sigmoid())),
        ValueError,
        "leave that layer out",
        lambda: vae(decoder=nn.Sequential(nn.Linear(2, 16))).elbo(X),
    ),
    "a sigmoid at the end, the other way out": (
        lambda: vae(decoder=nn.Sequential(nn.Linear(2, 16), nn.Sigmoid())),
        ValueError,
        "or choose likelihood='gaussian'",
        lambda: vae(decoder=nn.Sequential(nn.Linear(2, 16), nn.Sigmoid()), likelihood="gaussian").elbo(X),
    ),
    "a likelihood per pixel": (
        *(lambda: vae(likelihood=Plain(False)).elbo(X), ValueError, "a number per pixel: sum over the last dimension"),
        lambda: vae(likelihood=Plain(True)).elbo(X),
    ),
    "a condition for a VAE": (
        *(lambda: vae().elbo(X, CLASSES), TypeError, "takes no condition y: vaelib.cvae.CVAE does"),
        lambda: cvae().elbo(X, CLASSES),
    ),
    "a weight in the place of a condition": (
        *(lambda: vae().elbo(X, 4.0), TypeError, r"\(a weight is beta=...\)"),
        lambda: vae().elbo(X, beta=4.0),
    ),
    "codes of another width": (
        *(lambda: vae().decode(torch.zeros(5, 3)), ValueError, "its last dimension must be latent_dim = 2"),
        lambda: vae().decode(torch.zeros(5, 2)),
    ),
    "a seed in the place of a generator": (
        *(lambda: vae().elbo(X, generator=0), TypeError, r"make one with torch.Generator\(\).manual_seed\(0\)"),
        lambda: vae().elbo(X, generator=torch.Generator().manual_seed(0)),
    ),
    "NumPy's generator": (
        lambda: Bernoulli().sample(X, np.random.default_rng(0)),
        TypeError,
        r"of type Generator: make one with torch.Generator\(\).manual_seed\(0\)",
        lambda: Bernoulli().sample(X, torch.Generator().manual_seed(0)),
    ),
    "a generator of a grey value": (
        *(lambda: DiscretisedLogistic().sample(X, 7), TypeError, r"make one with torch.Generator\(\)"),
        lambda: DiscretisedLogistic().sample(X, torch.Generator().manual_seed(7)),
    ),
    "grey values between the levels": (
        *(
            lambda: vae(likelihood=DiscretisedLogistic()).elbo(X),
            ValueError,
            r"round with \(x \* 255\).round\(\) / 255",
        ),
        lambda: vae(likelihood=DiscretisedLogistic()).elbo((X * 255).round() / 255),
    ),
    "grey values of half precision": (
        lambda: vae(likelihood=DiscretisedLogistic()).elbo(BYTES.half() / 255),
        ValueError,
        r"round with \(x.float\(\) \* 255\).round\(\) / 255",
        lambda: vae(likelihood=DiscretisedLogistic()).elbo(((BYTES.half() / 255).float() * 255).round() / 255),
    ),
    "grey values from -1": (
        lambda: vae(likelihood=DiscretisedLogistic()).elbo(2 * BYTES / 255 - 1),
        ValueError,
        r"a discretised logistic likelihood needs \[0, 1\]; for \[-1, 1\] use \(x \+ 1\) / 2",
        lambda: vae(likelihood=DiscretisedLogistic()).elbo((2 * BYTES / 255 - 1 + 1) / 2),
    ),
    "no weight at all": (
        *(lambda: vae().elbo(X, beta=math.nan), ValueError, "beta must be a number of at least 0.*, not nan"),
        lambda: vae().elbo(X, beta=0),
    ),
    "weights in a column": (
        *(lambda: vae().elbo(X, beta=torch.ones(40, 1)), ValueError, r"one for each, \(batch,\)"),
        lambda: vae().elbo(X, beta=torch.ones(40, 1)[:, 0]),
    ),
    # conditions
    "no condition": (
        *(lambda: cvae().elbo(X), TypeError, "a CVAE needs a condition y for each image or code: a class index"),
        lambda: cvae().elbo(X, CLASSES),
    ),
    "classes as floats": (
        *(lambda: train(cvae(), y=CLASSES.double()), ValueError, r"convert them with y.long\(\)"),
        lambda: train(cvae(), y=CLASSES.double().long()),
    ),
    "classes as booleans in an array": (
        *(lambda: train(cvae(2), y=CLASSES.numpy() > 1), ValueError, r"an array with y.astype\(int\)"),
        lambda: train(cvae(2), y=(CLASSES.numpy() > 1).astype(int)),
    ),
    "a continuous condition": (
        *(lambda: train(cvae(1), y=X[:, 0]), ValueError, r"these are torch.float32: give vectors, y\[:, None\]$"),
        lambda: train(cvae(1), y=X[:, 0][:, None]),
    ),
    "a continuous condition of whole numbers": (
        *(lambda: train(cvae(1), y=DIGITS[:, 0]), ValueError, r"give vectors, y\[:, None\]$"),
        lambda: train(cvae(1), y=DIGITS[:, 0][:, None]),
    ),
    "a continuous condition for classes": (
        *(lambda: train(cvae(3), y=X[:, 0]), ValueError, r"y\[:, None\], to a model with condition_dim=1"),
        lambda: train(cvae(1), y=X[:, 0][:, None]),
    ),
    "a column of classes": (
        *(lambda: train(cvae(), y=CLASSES[:, None]), ValueError, r"or class indices \(batch,\): call y\[:, 0\]"),
        lambda: train(cvae(), y=CLASSES[:, None][:, 0]),
    ),
    "a class too many": (
        *(lambda: train(cvae(2), y=CLASSES), ValueError, "with condition_dim = 2 classes run from 0 to 1"),
        lambda: train(cvae(2), y=CLASSES.clamp(0, 1)),
    ),
    "a condition for each code": (
        *(lambda: cvae().decode(torch.zeros(5, 2), CLASSES[:1]), ValueError, r"repeat a condition with y.expand"),
        lambda: cvae().decode(torch.zeros(5, 2), CLASSES[:1].expand(5)),
    ),
    "a prior network without its prior": (
        *(lambda: cvae(prior_network=nn.Linear(3, 4)), ValueError, "a prior_network needs prior='conditional'"),
        lambda: cvae(prior_network=nn.Linear(3, 4), prior="conditional"),
    ),
    "no condition of validation": (
        lambda: train(cvae(), y=CLASSES, validation=OWN),
        ValueError,
        r"validation=\(images, conditions\)",
        lambda: train(cvae(), y=CLASSES, validation=(OWN.images, CLASSES)),
    ),
    "validation of three parts": (
        *(lambda: train(cvae(), OWN, validation=(X, CLASSES, 3)), ValueError, r"a pair \(images, conditions\)"),
        lambda: train(cvae(), OWN, validation=(X, CLASSES)),
    ),
    "conditions for a VAE in training": (
        *(lambda: train(vae(), y=CLASSES), TypeError, r"takes no condition y: for p\(x\|y\) use vaelib.cvae.CVAE"),
        lambda: train(cvae(), y=CLASSES),
    ),
    # training
    "nothing to maximise": (
        *(lambda: train(Own()), TypeError, r"give it `def elbo\(self, x, y=None, \*, generator=None\)`"),
        lambda: train(WithElbo()),
    ),
    "nothing to minimise": (
        *(lambda: train(Own()), TypeError, r"or `def loss\(self, x\)`, to be minimised"),
        lambda: train(WithLoss()),
    ),
    "no objective": (
        *(lambda: train(Own()), TypeError, "or pass objective=lambda model, x, y, step, generator: "),
        lambda: train(Own(), objective=lambda model, x, y, step, generator: -model.layer(x).square().squeeze(1)),
    ),
    "everything frozen": (
        *(lambda: train(vae().requires_grad_(False)), ValueError, r"call model.requires_grad_\(True\)"),
        lambda: train(vae().requires_grad_(False).requires_grad_(True)),
    ),
    "half precision": (
        *(lambda: train(vae().half()), ValueError, r"torch.float16: .* call model.float\(\)"),
        lambda: train(vae().half().float()),
    ),
    "half precision with more digits": (
        *(lambda: train(vae().bfloat16()), ValueError, r"torch.bfloat16: .* call model.float\(\)"),
        lambda: train(vae().bfloat16().float()),
    ),
    "a lazy layer": (
        *(lambda: train(lazy()), ValueError, r"has a lazy layer.* call model.elbo\(images\[:2\]\) once, before"),
        lambda: train(looked_at(lazy())),
    ),
    "a last batch of one": (
        lambda: train(vae(encoder=normed()), X[:33], batch_size=16),
        ValueError,
        "of 33 images, batch_size=16 leaves such a one; batch_size=17 does not",
        lambda: train(vae(encoder=normed()), X[:33], batch_size=17),
    ),
    "a last batch of one image, and one size that has none": (
        *(lambda: train(vae(encoder=normed()), X[:3], batch_size=2), ValueError, "such a one; batch_size=3 does not"),
        lambda: train(vae(encoder=normed()), X[:3], batch_size=3),
    ),
    "batches of one": (
        *(lambda: train(vae(encoder=normed()), batch_size=1), ValueError, "leaves such a one; batch_size=2 does not"),
        lambda: train(vae(encoder=normed()), batch_size=2),
    ),
    "one image": (
        *(lambda: train(vae(encoder=normed()), X[:1]), ValueError, "give two images or more"),
        lambda: train(vae(encoder=normed()), X[:2]),
    ),
    "a transform to another type": (
        *(lambda: train(vae(), transform=lambda x, g: x.double()), ValueError, r"call .to\(x.dtype\) on its result"),
        lambda: train(vae(), transform=lambda x, g: x.double().to(x.dtype)),
    ),
    "an objective that looks": (
        lambda: train(vae(), objective=lambda m, x, y, s, g: -(m(x) - x).square().sum(1)),
        ValueError,
        "are for looking, without gradients: use elbo, or encode and decode",
        lambda: train(
            vae(),
            objective=lambda m, x, y, s, g: -(m.mean(m.decode(sum_of(m.encode(x)))) - x).square().sum(1),
        ),
    ),
    "an objective of another model": (
        lambda: train(vae(), objective=lambda m, x, y, s, g: OTHER.elbo(x)),
        ValueError,
        "the objective must depend on those of the model that it is given",
        lambda: train(vae(), objective=lambda m, x, y, s, g: m.elbo(x)),
    ),
    "an objective of one number": (
        lambda: train(vae(), objective=lambda m, x, y, s, g: m.elbo(x).elbo.mean()),
        ValueError,
        "leave the mean over the batch to fit",
        lambda: train(vae(), objective=lambda m, x, y, s, g: m.elbo(x).elbo),
    ),
    "an objective of two kinds": (
        lambda: train(vae(), objective=lambda m, x, y, s, g: m.elbo(x) if s else m.elbo(x).log_likelihood),
        TypeError,
        r"a tensor before and ElboTerms now \(step 1\).*ElboTerms\(log_likelihood, kl, beta=0.0\)",
        lambda: train(
            vae(),
            objective=lambda m, x, y, s, g: (
                m.elbo(x) if s else ElboTerms(m.elbo(x).log_likelihood, m.elbo(x).kl, beta=0.0)
            ),
        ),
    ),
    "a rate that ends in infinity": (
        *(lambda: train(vae(), epochs=9, learning_rate=1e20, schedule=None), TrainingError, "a smaller learning_rate"),
        lambda: train(vae(), epochs=9, learning_rate=1e-3, schedule=None),
    ),
    "a schedule's name": (
        *(lambda: train(vae(), schedule="liner"), ValueError, "unknown schedule 'liner': choose 'linear' or None"),
        lambda: [train(vae(), schedule=each) for each in ("linear", None)],
    ),
    "a device's name": (
        *(lambda: train(vae(), device="gpu"), ValueError, "choose 'auto', 'cpu'"),
        lambda: [train(vae(), device=each) for each in ("auto", "cpu")],
    ),
    "epochs in a text": (
        *(lambda: train(vae(), epochs="3"), ValueError, "epochs must be a whole number of at least 1, not '3'"),
        lambda: train(vae(), epochs=3),
    ),
    "epochs with a point": (
        *(lambda: train(vae(), epochs=2.0), ValueError, "epochs must be a whole number of at least 1, not 2.0"),
        lambda: train(vae(), epochs=2),
    ),
    # what a trained model is asked
    "an autoencoder's codes": (
        *(lambda: latent.encode_dataset(Autoencoder(16, (8,), 2), X), TypeError, r"call model.encode\(images\) itself"),
        lambda: Autoencoder(16, (8,), 2).encode(X),
    ),
    "an autoencoder's units": (
        *(lambda: evaluation.active_units(Autoencoder(16, (8,), 2), X), TypeError, "active_units needs a posterior"),
        lambda: evaluation.active_units(vae(), X),
    ),
    "a proposal's name": (
        *(lambda: evaluation.log_evidence(vae(), X, 3, proposal="q"), ValueError, "choose 'posterior' or 'prior'"),
        lambda: [evaluation.log_evidence(vae(), X, 3, proposal=each) for each in ("posterior", "prior")],
    ),
    "one image's variance": (
        *(lambda: evaluation.active_units(vae(), X[:1]), ValueError, "need two images or more, not 1"),
        lambda: evaluation.active_units(vae(), X[:2]),
    ),
    # figures
    "digits of whole numbers in a grid": (
        *(lambda: figures.image_grid(DIGITS.byte()), ValueError, "pixels up to 16 are above vmax = 1: divide by 16"),
        lambda: figures.image_grid(DIGITS.byte() / 16),
    ),
    "bytes in a grid": (
        *(lambda: figures.image_grid(BYTES.byte()), ValueError, "are above vmax = 1: divide by 255"),
        lambda: figures.image_grid(BYTES.byte() / 255),
    ),
    "one image in a grid": (
        *(lambda: figures.image_grid(torch.rand(8, 8)), ValueError, r"one image alone is images\[None\]"),
        lambda: figures.image_grid(torch.rand(8, 8)[None]),
    ),
    "rows that are no squares in a grid": (
        *(lambda: figures.image_grid(torch.rand(5, 20)), ValueError, r"reshape to \(N, height, width\) first"),
        lambda: figures.image_grid(torch.rand(5, 20).reshape(5, 4, 5)),
    ),
    "channels last in a grid": (
        *(lambda: figures.image_grid(np.ones((5, 6, 4, 3))), ValueError, r"call numpy.moveaxis\(images, 3, 1\)"),
        lambda: figures.image_grid(np.moveaxis(np.ones((5, 6, 4, 3)), 3, 1)),
    ),
    "three columns of codes": (
        *(lambda: figures.latent_scatter(X[:, :3], CLASSES), ValueError, r"such as z\[:, \[0, 1\]\]"),
        lambda: figures.latent_scatter(X[:, :3][:, [0, 1]], CLASSES),
    ),
    "a logarithm of a variance": (
        *(lambda: figures.gaussian_ellipse([0, 0], [-1, -1]), ValueError, r"of log_var, give exp\(log_var\)"),
        lambda: figures.gaussian_ellipse([0, 0], np.exp([-1, -1])),
    ),
    "another curve of validation": (
        lambda: figures.training_curves({"ELBO": [1, 2]}, validation={"KL": [1, 2]}),
        ValueError,
        "use the same names",
        lambda: figures.training_curves({"ELBO": [1, 2]}, validation={"ELBO": [1, 2]}),
    ),
}


def sum_of(posterior: Any) -> Tensor:
    """A code that depends on both of its parts, so that each parameter gets a gradient."""
    return posterior.mu + posterior.log_var


@pytest.fixture(autouse=True)
def _no_figure_stays_open():
    yield
    plt.close("all")


@pytest.mark.parametrize("name", ERRORS)
def test_obeying_an_error_helps(name):
    wrong, error, words, obeyed = ERRORS[name]
    with pytest.raises(error, match=words):
        wrong()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        obeyed()


class NegativeKl(VAE):
    sign = -1

    def elbo(self, x, y=None, **options):
        terms = super().elbo(x, y, **options)
        return ElboTerms(terms.log_likelihood, self.sign * (terms.kl + 1))


class PositiveKl(NegativeKl):
    sign = 1


class MinusLogLikelihood(VAE):
    sign = -1

    def elbo(self, x, y=None, **options):
        terms = super().elbo(x, y, **options)
        return ElboTerms(self.sign * terms.log_likelihood, terms.kl)


class LogLikelihood(MinusLogLikelihood):
    sign = 1


class Runaway(Own):
    """Grows without bound where it is maximised."""

    def grown(self, x: Tensor) -> Tensor:
        return self.layer(x).square().squeeze(1)


class LossNamedElbo(Runaway):
    def elbo(self, x):
        return self.grown(x)


class LossNamedLoss(Runaway):
    def loss(self, x):
        return self.grown(x)


class BoundNamedLoss(Runaway):
    def loss(self, x):
        return -self.grown(x)


class BoundNamedElbo(Runaway):
    def elbo(self, x):
        return -self.grown(x)


class LossTerms(Runaway):
    sign = 1

    def elbo(self, x):
        return ElboTerms(self.sign * self.grown(x), 0 * self.grown(x))


class BoundTerms(LossTerms):
    sign = -1


class Forgotten(VAE):
    """A head that the bound does not use."""

    def __init__(self, frozen: bool = False) -> None:
        super().__init__(16, (8,), 2)
        self.head = nn.Linear(8, 3).requires_grad_(not frozen)


def far(model: nn.Module) -> Any:
    return train(model, epochs=40, learning_rate=0.3, schedule=None)


def annealed(m, x, y, step, g):
    return m.elbo(x, beta=step / 10, generator=g).objective


def annealed_terms(m, x, y, step, g):
    return m.elbo(x, beta=step / 10, generator=g)


ZEROS_AND_ONES = data.binarize(X, torch.Generator().manual_seed(0))

WARNINGS: dict[str, tuple[Any, str, Any]] = {
    "probabilities": (
        lambda: vae(decoder=Network(2, 16, torch.sigmoid)).elbo(X),
        "leave out the function that makes them so",
        lambda: vae(decoder=Network(2, 16)).elbo(X),
    ),
    "divided twice": (lambda: train(vae(), X / 255), "multiply by 255", lambda: train(vae(), X / 255 * 255)),
    "a forgotten head": (
        lambda: train(Forgotten()),
        r"no gradient reached head.weight, head.bias in a whole epoch.* with requires_grad_\(False\)",
        lambda: train(Forgotten(frozen=True)),
    ),
    "a negative KL": (
        lambda: train(NegativeKl(16, (8,), 2)),
        "the mean KL is -.* nats, .* takes the KL as it is, positive",
        lambda: train(PositiveKl(16, (8,), 2)),
    ),
    "a negative KL that is evaluated": (
        lambda: evaluation.mean_elbo(NegativeKl(16, (8,), 2), X),
        "no KL divergence is negative",
        lambda: evaluation.mean_elbo(PositiveKl(16, (8,), 2), X),
    ),
    "a probability above 1": (
        lambda: train(MinusLogLikelihood(16, (8,), 2)),
        r"probability \(bernoulli\) is never above 0: ElboTerms takes log p\(x\|z\), not its negative",
        lambda: train(LogLikelihood(16, (8,), 2)),
    ),
    "a loss named elbo": (
        lambda: far(LossNamedElbo()),
        r"fit maximises it: if elbo\(x\) returns a loss, call that method loss",
        lambda: far(LossNamedLoss()),
    ),
    "a bound named loss": (
        lambda: far(BoundNamedLoss()),
        r"if loss\(x\) returns a bound, call that method elbo",
        lambda: far(BoundNamedElbo()),
    ),
    "the terms of a loss": (
        lambda: far(LossTerms()),
        r"note that ElboTerms takes log p\(x\|z\), not its negative",
        lambda: far(BoundTerms()),
    ),
    "a loss as an objective": (
        lambda: train(
            vae(), epochs=30, learning_rate=0.1, objective=lambda m, x, y, s, g: -m.elbo(x, generator=g).elbo
        ),
        "if it is a loss, return its negative",
        lambda: train(
            vae(), epochs=30, learning_rate=0.01, objective=lambda m, x, y, s, g: m.elbo(x, generator=g).elbo
        ),
    ),
    "a rate far too high": (
        lambda: train(vae(), epochs=20, learning_rate=3.0),
        "a smaller learning_rate than 3 is the usual remedy",
        lambda: train(vae(), epochs=20, learning_rate=0.01),
    ),
    "an annealed objective": (
        lambda: train(vae(), epochs=2, objective=annealed, validation=X),
        r"the objective depends on the step.* return ElboTerms, such as model.elbo\(x, beta=beta\)",
        lambda: train(vae(), epochs=2, objective=annealed_terms, validation=X),
    ),
    "grey validation": (
        lambda: train(vae(), transform=data.binarize, validation=X),
        r"binarise these too, once, with vaelib.data.binarize\(images\)",
        lambda: train(vae(), transform=data.binarize, validation=data.binarize(X)),
    ),
    "grey validation of binary data": (
        lambda: train(vae(), ZEROS_AND_ONES, validation=X),
        "binarise these too",
        lambda: train(vae(), ZEROS_AND_ONES, validation=data.binarize(X)),
    ),
    "logits in a grid": (
        lambda: figures.image_grid(vae().decode(torch.zeros(4, 2)) + 9.5),
        r"if they are logits, show model.mean\(decoded\)",
        lambda: figures.image_grid(vae().mean(vae().decode(torch.zeros(4, 2)) + 9.5)),
    ),
    "digits as floats in a grid": (
        lambda: figures.image_grid(DIGITS),
        "cut off there: divide by 16",
        lambda: figures.image_grid(DIGITS / 16),
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_obeying_a_warning_helps(name):
    wrong, words, obeyed = WARNINGS[name]
    with pytest.warns(UserWarning, match=words):
        wrong()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        obeyed()


def test_codes_of_other_types_are_taken_and_give_the_same_image():
    """What a remedy would say is done instead: NumPy's codes are float64, and so are many of a reader's."""
    z = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
    for model in (vae(), Autoencoder(16, (8,), 2)):
        expected = model.decode(z)
        for codes in (z.numpy(), z.double(), z.double().numpy(), z.tolist()):
            torch.testing.assert_close(model.decode(codes), expected)
        assert torch.equal(model.decode(torch.ones(1, 2, dtype=torch.int64)), model.decode(torch.ones(1, 2)))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_a_model_of_half_precision_is_evaluated_to_within_its_digits(half):
    model, rounded = vae(), vae().to(half)
    found, exact = (evaluation.mean_elbo(each, X) for each in (rounded, model))
    assert found == pytest.approx(exact, rel=0.01)  # bfloat16 has three digits
    evidence = evaluation.log_evidence(rounded, X[:3], 20)
    torch.testing.assert_close(evidence.float(), evaluation.log_evidence(model, X[:3], 20), rtol=0.01, atol=0)


def test_the_last_dimensions_of_a_formula_s_arguments_must_agree():
    with pytest.raises(ValueError, match=r"the last dimensions must be equal: x \(3, 4\), mu \(3, 5\)"):
        distributions.gaussian_log_prob(torch.zeros(3, 4), torch.zeros(3, 5), 0.0)
