"""The doctor: no illness on models that were made well, each planted bug named, gone when mended, and no side effects.

The models are small and the images few. How often the doctor is right on many models is measured apart, by
`experiments.measure_doctor`; here each examination is seen to find what it looks for.
"""

import copy
import inspect
import math
import random
import re
import warnings
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vaelib
from vaelib import likelihoods
from vaelib.autoencoder import Autoencoder
from vaelib.contract import ElboTerms, Posterior
from vaelib.cvae import CVAE
from vaelib.data import ImageData, binarize, load
from vaelib.diagnosis import Report, diagnose
from vaelib.training import fit
from vaelib.vae import VAE

TRAIN, TEST = load("digits"), load("digits", "test")


def look(model: nn.Module, data=TEST, y=None, **settings) -> Report:
    """A diagnosis on few images, in silence."""
    return diagnose(model, data, y, **{"n_images": 120, "show": False} | settings)


def names(report: Report) -> list[str]:
    return [finding.name for finding in report.illnesses]


def told(report: Report) -> str:
    return "\n".join(f"{finding.name}: {finding.text}" for finding in report.illnesses)


class Own(nn.Module):
    """A model of a reader's own, plain, right, and with one line for each thing that can be wrong."""

    likelihood = likelihoods.Bernoulli()

    def __init__(self, seed: int = 0, latent_dim: int = 6) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2 * latent_dim))
            self.decoder = nn.Sequential(nn.Linear(latent_dim, 64), nn.ReLU(), nn.Linear(64, 64))

    def encode(self, x):
        return Posterior(*self.encoder(x.flatten(1)).chunk(2, 1))

    def decode(self, z):
        return self.decoder(z)

    def noise(self, mu, generator):
        return torch.randn(mu.shape, generator=generator)

    def draw(self, mu, log_var, generator):
        return mu + torch.exp(0.5 * log_var) * self.noise(mu, generator)

    def log_likelihood(self, x, logits):
        return -F.binary_cross_entropy_with_logits(logits, x.flatten(1).expand_as(logits), reduction="none").sum(-1)

    def kl(self, mu, log_var):
        return 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)

    def elbo(self, x, *, generator=None):
        mu, log_var = self.encode(x)
        z = self.draw(mu, log_var, generator)
        return ElboTerms(self.log_likelihood(x, self.decode(z)), self.kl(mu, log_var))

    def log_weights(self, x, n_samples, generator=None):
        mu, log_var = (each.expand(n_samples, *each.shape) for each in self.encode(x))
        z = self.draw(mu, log_var, generator)
        p, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(mu, torch.exp(0.5 * log_var))
        return self.log_likelihood(x, self.decode(z)) + p.log_prob(z).sum(-1) - q.log_prob(z).sum(-1)

    def iwae_bound(self, x, n_samples, generator=None):
        return torch.logsumexp(self.log_weights(x, n_samples, generator), 0) - math.log(n_samples)

    @torch.no_grad()
    def sample(self, n, generator=None):
        return torch.sigmoid(self.decode(torch.randn(n, self.latent_dim, generator=generator)))


class Gaussian(Own):
    """The same with a Gaussian likelihood of one fixed sigma."""

    sigma, likelihood = 0.25, likelihoods.Gaussian(0.25)

    def log_likelihood(self, x, mean):
        return torch.distributions.Normal(mean, self.sigma).log_prob(x.flatten(1)).sum(-1)

    @torch.no_grad()
    def sample(self, n, generator=None):
        return self.decode(torch.randn(n, self.latent_dim, generator=generator))


@cache
def weights(kind: type = Own):
    """The weights of a trained model, and what its training measured."""
    model = kind()
    history = fit(model, TRAIN, epochs=12, batch_size=64, learning_rate=5e-3, progress=False)
    return model.state_dict(), history


def trained(kind: type = Own, base: type = Own, **methods):
    """A trained model of a class, with some of its methods planted after training."""
    model = type(f"Planted{kind.__name__}", (kind,), methods)()
    model.load_state_dict(weights(base)[0])
    return model


# --- healthy models ---

HEALTHY = {
    "grey": lambda: (VAE(64, (64,), 8), TRAIN, TEST, {}),
    "binarised": lambda: (VAE(64, (64,), 8), bits(TRAIN), bits(TEST), {}),
    "20 dimensions": lambda: (VAE(64, (100,), 20), TRAIN, TEST, {}),
    "learned sigma": lambda: (VAE(64, (64,), 8, "gaussian", sigma="learned"), TRAIN, TEST, SLOW),
    "logistic": lambda: (VAE(64, (64,), 8, likelihoods.DiscretisedLogistic(17)), TRAIN, TEST, {}),
    "beta 0.5": lambda: (VAE(64, (64,), 8), TRAIN, TEST, {"objective": weighted(0.5)}),
    "conditional": lambda: (CVAE(64, 10, (64,), 4, "conditional"), TRAIN, TEST, {}),
}
SLOW = {"epochs": 20, "learning_rate": 5e-3, "batch_size": 64}


def bits(data: ImageData) -> torch.Tensor:
    return binarize(data.images, torch.Generator().manual_seed(0))


def weighted(beta: float):
    return lambda model, x, y, step, generator: model.elbo(x, beta=beta, generator=generator)


@pytest.mark.parametrize("kind", HEALTHY)
def test_a_model_that_was_made_and_trained_well_has_no_illness(kind):
    model, train, test, settings = HEALTHY[kind]()
    history = fit(model, train, progress=False, **{"epochs": 8} | settings)
    assert told(look(model, test, train=train, history=history)) == ""


# --- planted bugs: what is planted, and what must be said of it ---


def _bce(model, x, logits):
    return F.binary_cross_entropy_with_logits(logits, x.flatten(1).expand_as(logits), reduction="none")


def _loss(model, x, *, generator=None):
    return -Own.elbo(model, x, generator=generator).elbo


def _kl_in_one_number(model, x, *, generator=None):
    terms = Own.elbo(model, x, generator=generator)
    return terms.log_likelihood - terms.kl / 6


def _detached(model, x, *, generator=None):
    mu, log_var = model.encode(x)
    z = model.draw(mu, log_var, generator).detach()
    return ElboTerms(model.log_likelihood(x, model.decode(z)), model.kl(mu, log_var))


def _rolled(model, mu, log_var, generator):
    return Own.draw(model, mu, log_var, generator).roll(1, -2)


def _normalised(model, x):
    x = x.flatten(1)
    return Own.encode(model, x / x.mean().clamp(min=0.1) * 0.3)


def _one_seed(model, mu, generator):
    return torch.randn(mu.shape, generator=torch.Generator().manual_seed(3))


def _divided(model, x, *, generator=None):
    return Own.elbo(model, x, generator=generator).elbo / 64


def _entropy_forgotten(model, x, *, generator=None):
    mu, log_var = model.encode(x)
    z = model.draw(mu, log_var, generator)
    return model.log_likelihood(x, model.decode(z)) - 0.5 * (z**2 + math.log(2 * math.pi)).sum(1)


def _kl_of_z(model, x, *, generator=None):
    mu, log_var = model.encode(x)
    z = model.draw(mu, log_var, generator)
    return ElboTerms(model.log_likelihood(x, model.decode(z)), model.kl(z, log_var))


def _log_p_too_much(model, x, *, generator=None):
    mu, log_var = model.encode(x)
    z = model.draw(mu, log_var, generator)
    more = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)
    return ElboTerms(model.log_likelihood(x, model.decode(z)) + more, model.kl(mu, log_var))


def _turned(model, mu, log_var, generator):
    z = Own.draw(model, mu, log_var, generator)
    return z.mT.reshape(z.shape)


BUGS = {
    "a mean over batch and pixels": (
        {"log_likelihood": lambda m, x, z: -_bce(m, x, z).mean().expand(len(x))},
        "log likelihood: .*mean over the batch and the 64 pixels",
    ),
    "a sum over the batch": (
        {"log_likelihood": lambda m, x, z: -_bce(m, x, z).sum().expand(len(x))},
        "log likelihood: .*the sum over the batch",
    ),
    "in bits": ({"log_likelihood": lambda m, x, z: -_bce(m, x, z).sum(-1) / math.log(2)}, "log likelihood: .*in bits"),
    "a constant": (
        {"log_likelihood": lambda m, x, z: 4 - _bce(m, x, z).sum(-1)},
        r"log likelihood: .*plus (4|3\.9).*constant",
    ),
    "a factor": (
        {"log_likelihood": lambda m, x, z: -1.7 * _bce(m, x, z).sum(-1)},
        "log likelihood: .*1.7.*a factor is",
    ),
    "log p(z) too much": ({"elbo": _log_p_too_much}, r"log likelihood: .*log p\(z\) is added"),
    "the entropy forgotten": ({"elbo": _entropy_forgotten}, r"log likelihood: .*log q\(z\|x\) is missing"),
    "the whole bound by pixel": ({"elbo": _divided}, "log likelihood: .*whole bound is divided by the 64 pixels"),
    "softplus for sigma": (
        {"draw": lambda m, mu, log_var, g: mu + F.softplus(log_var) * m.noise(mu, g)},
        r"noise: .*softplus\(log_var\)",
    ),
    "z written in other rows": ({"draw": _turned}, "batch: .*depends on other images"),
    "no KL": ({"kl": lambda m, mu, v: 0 * Own.kl(m, mu, v)}, "KL: .*it is missing"),
    "a KL of twice": ({"kl": lambda m, mu, v: 2 * Own.kl(m, mu, v)}, "KL: .*1/2 is forgotten"),
    "a KL by pixel": ({"kl": lambda m, mu, v: Own.kl(m, mu, v) / 64}, "KL: .*divided by the 64 pixels"),
    "a KL by batch": ({"kl": lambda m, mu, v: Own.kl(m, mu, v) / len(mu)}, "KL: .*divided by the 120 images"),
    "a KL of the batch": ({"kl": lambda m, mu, v: Own.kl(m, mu, v).sum().expand(len(mu))}, "KL: .*sum over the batch"),
    "a KL of z": ({"elbo": _kl_of_z}, "KL: .*drawn z stands in it"),
    "a log_var that is constant": (
        {"encode": lambda m, x: Posterior(Own.encode(m, x).mu, 0 * Own.encode(m, x).log_var - 0.5)},
        "posterior: .*clamped or a constant, and no image",
    ),
    "a bound of NaN": ({"kl": lambda m, mu, v: Own.kl(m, mu, v) * math.nan}, "bound: .*elbo's KL are no numbers"),
    "a bound of NaN, in one number": (
        {"elbo": lambda m, x: Own.elbo(m, x).elbo * math.nan},
        "bound: .*1920 values of elbo are no numbers",
    ),
    "weights of NaN": (
        {"log_weights": lambda m, *a, **k: Own.log_weights(m, *a, **k) * math.nan},
        "importance weights: .*NaN or infinite",
    ),
    "weights that fail": ({"log_weights": lambda m, x, n: 1 / 0}, "importance weights: .*division by zero"),
    "samples of another number": ({"sample": lambda m, n: torch.rand(7, 64)}, r"samples: .*it returns \(7, 64\)"),
    "a mean over the pixels": (
        {"log_likelihood": lambda m, x, z: -_bce(m, x, z).mean(-1)},
        "log likelihood: .*64 pixels",
    ),
    "log likelihood's sign": ({"log_likelihood": lambda m, x, z: _bce(m, x, z).sum(-1)}, "log likelihood: .*sign"),
    "squared error": (
        {"log_likelihood": lambda m, x, z: -(torch.sigmoid(z) - x.flatten(1)).square().sum(-1)},
        "log likelihood: .*minus the squared error",
    ),
    "sigmoid twice in the bound": (
        {"log_likelihood": lambda m, x, z: Own.log_likelihood(m, x, torch.sigmoid(z))},
        "log likelihood: .*twice",
    ),
    "sigmoid in decode": ({"decode": lambda m, z: torch.sigmoid(m.decoder(z))}, "logits: .*sigmoid"),
    "some pixels": ({"log_likelihood": lambda m, x, z: -_bce(m, x, z)[..., 9:].sum(-1)}, "log likelihood: "),
    "z = mu": ({"draw": lambda m, mu, log_var, generator: mu}, "noise: .*set to the mean"),
    "noise * 0.01": ({"noise": lambda m, mu, g: 0.01 * Own.noise(m, mu, g)}, r"noise: .* 0\.0(1|09|08)\d* times"),
    "noise * 0.5": ({"noise": lambda m, mu, g: 0.5 * Own.noise(m, mu, g)}, r"noise: .* 0\.(4[5-9]|5[0-5]?) times"),
    "exp(log_var)": (
        {"draw": lambda m, mu, log_var, g: mu + log_var.exp() * m.noise(mu, g)},
        r"noise: .*exp\(log_var\) as the standard deviation",
    ),
    "log_var for sigma": (
        {"draw": lambda m, mu, log_var, g: mu + log_var * m.noise(mu, g)},
        "noise: .*log_var itself as the standard deviation",
    ),
    "a seed inside": ({"noise": _one_seed}, "noise: .*each call has the same noise"),
    "one noise for all": ({"noise": lambda m, mu, g: torch.randn(mu.shape[-1], generator=g)}, "noise: .*whole batch"),
    "one noise for each": (
        {"noise": lambda m, mu, g: torch.randn(*mu.shape[:-1], 1, generator=g)},
        "noise: .*all latent dimensions",
    ),
    "another's code": ({"draw": _rolled}, "noise: .*another image"),
    "another's code, unused": (
        {"draw": _rolled, "decode": lambda m, z: m.decoder(1e-5 * z)},
        "batch: .*depends on other images",
    ),
    "a mean over dimensions": ({"kl": lambda m, mu, v: Own.kl(m, mu, v) / 6}, "KL: .*mean over the 6 latent"),
    "a mean over the batch": (
        {"kl": lambda m, mu, v: Own.kl(m, mu, v).mean().expand(len(mu))},
        "KL: .*mean over the batch",
    ),
    "KL's sign": ({"kl": lambda m, mu, v: -Own.kl(m, mu, v)}, "KL: .*sign"),
    "beta in the KL": ({"kl": lambda m, mu, v: 4 * Own.kl(m, mu, v)}, "KL: .*4 times"),
    "log_var for log sigma": ({"kl": lambda m, mu, v: Own.kl(m, mu, 2 * v)}, "KL: .*read as log sigma"),
    "only mu^2": ({"kl": lambda m, mu, v: 0.5 * (mu**2).sum(1)}, r"KL: .* 0\.5 sum mu\^2 \+0 sum sigma\^2"),
    "the KL reversed": (
        {"kl": lambda m, mu, v: 0.5 * ((1 + mu**2) / v.exp() - 1 + v).sum(1)},
        "KL: .*wrong way round",
    ),
    "another prior": (
        {"kl": lambda m, mu, v: 0.5 * ((mu**2 + v.exp()) / 4 - 1 - v + math.log(4)).sum(1)},
        r"KL: .*0\.125 sum mu\^2 \+0\.125 sum sigma\^2",
    ),
    "a loss": ({"elbo": _loss}, "log likelihood: .*a loss"),
    "a KL in one number": ({"elbo": _kl_in_one_number}, "log likelihood: .*mean over the 6 latent"),
    "dropout always on": ({"encode": lambda m, x: Own.encode(m, F.dropout(x, 0.2))}, "batch: .*random"),
    "the batch's mean": ({"encode": _normalised}, "batch: .*influence each other"),
    "z detached": (
        {"elbo": _detached},
        "gradients: 0 of 4 .* of the encoder .* log likelihood",
    ),
    "no gradient": ({"elbo": torch.no_grad()(Own.elbo)}, "gradients: .*no_grad"),
    "half of the pixels": (
        {"encode": lambda m, x: Own.encode(m, x.flatten(1) * (torch.arange(64) < 32))},
        "inputs: 2[0-9] of the",
    ),
    "log_var clamped": (
        {"encode": lambda m, x: Posterior(Own.encode(m, x).mu, Own.encode(m, x).log_var.clamp(-0.2, -0.1))},
        "posterior: .*clamped",
    ),
    "mu through a ReLU": (
        {"encode": lambda m, x: Posterior(F.relu(Own.encode(m, x).mu), Own.encode(m, x).log_var)},
        "posterior: .*ReLU",
    ),
    "a posterior that is a point": (
        {"encode": lambda m, x: Posterior(Own.encode(m, x).mu, Own.encode(m, x).log_var - 20)},
        "posterior: .*a point",
    ),
    "codes far away": (
        {"encode": lambda m, x: Posterior(3 * Own.encode(m, x).mu + 2, Own.encode(m, x).log_var)},
        "aggregate posterior: ",
    ),
    "the decoder ignores z": ({"decode": lambda m, z: m.decoder(0.01 * z)}, "code: .*hardly uses"),
    "too sure": ({"decode": lambda m, z: 4 * m.decoder(z)}, "logits: .*too sure"),
    "the weights' sign": (
        {"log_weights": lambda m, *a, **k: -Own.log_weights(m, *a, **k)},
        "importance weights: .*sign",
    ),
    "no log K": (
        {"iwae_bound": lambda m, x, n, generator=None: m.log_weights(x, n, generator).logsumexp(0)},
        "importance weights: .*not subtracted",
    ),
    "the wrong axis": (
        {"iwae_bound": lambda m, x, n, generator=None: m.log_weights(x, n, generator).logsumexp(1)},
        "importance weights: .*shape",
    ),
    "a mean of log weights": (
        {"iwae_bound": lambda m, x, n, generator=None: m.log_weights(x, n, generator).mean(0)},
        "importance weights: .*does not rise",
    ),
    "samples of logits": (
        {"sample": lambda m, n, generator=None: m.decode(torch.randn(n, 6, generator=generator))},
        "samples: .*not turned into pixels",
    ),
    "timid samples": (
        {"sample": lambda m, n, generator=None: m.decode(0.2 * torch.randn(n, 6, generator=generator)).sigmoid()},
        r"samples: .*0\.(1[5-9]|2[0-5]?) times",
    ),
    "one sample": (
        {
            "sample": lambda m, n, generator=None: (
                m.decode(torch.randn(1, 6, generator=generator)).sigmoid().expand(n, -1)
            )
        },
        "samples: .*the same image",
    ),
    "samples shifted by a pixel": (
        {"sample": lambda m, n, generator=None: Own.sample(m, n, generator).view(n, 8, 8).roll(1, 2).flatten(1)},
        "samples: .*not by the same decoder",
    ),
}


def test_the_model_that_bugs_are_planted_in_is_healthy():
    assert look(trained(), TEST, train=TRAIN, history=weights()[1]).illnesses == ()
    assert look(trained(Gaussian, Gaussian)).illnesses == ()


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_named(bug):
    methods, said = BUGS[bug]
    report = look(trained(**methods))
    assert re.search(said, told(report)), told(report) or "no illness"
    assert all(re.search(r"\d", finding.text) for finding in report.illnesses)  # no verdict without its number


GAUSSIAN_BUGS = {
    "sigma^2 for sigma": (
        lambda m, x, mean: torch.distributions.Normal(mean, 0.25**2).log_prob(x.flatten(1)).sum(-1),
        r"sigma\^2 stands where sigma",
    ),
    "variance and constant": (lambda m, x, mean: -0.5 * (x.flatten(1) - mean).square().sum(-1), "(variance|constant)"),
    "the constant": (
        lambda m, x, mean: Gaussian.log_likelihood(m, x, mean) + 32 * math.log(2 * math.pi * 0.25**2),
        "constant",
    ),
    "log 2 pi D times": (
        lambda m, x, mean: Gaussian.log_likelihood(m, x, mean) - 63 * 32 * math.log(2 * math.pi),
        "counted D = 64 times",
    ),
    "a mean over the pixels": (lambda m, x, mean: -(x.flatten(1) - mean).square().mean(-1), "mean over the 64 pixels"),
}


@pytest.mark.parametrize("bug", GAUSSIAN_BUGS)
def test_what_is_forgotten_of_a_gaussian_is_named(bug):
    wrong, said = GAUSSIAN_BUGS[bug]
    report = look(trained(Gaussian, Gaussian, log_likelihood=wrong))
    assert re.search(f"log likelihood: .*{said}", told(report)), told(report) or "no illness"


# --- data, training, conditions ---


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (TEST.images.flip(1), "pixels: .*other preprocessing.*upside down"),
        (TEST.images.transpose(1, 2).contiguous(), "pixels: .*other preprocessing.*transposed"),
        (1 - TEST.images, "pixels: .*other preprocessing.*inverted"),
        (TEST.images.roll(1, 2), "pixels: .*other preprocessing"),
        (0.5 * TEST.images, "pixels: .*other preprocessing"),
        (TEST.images / 255, "pixels: .*dark"),
        (2 * TEST.images - 1, r"pixels: .*\(x \+ 1\) / 2"),
        (16 * TEST.images, "pixels: .*divide by the largest"),
    ],
)
def test_images_that_are_not_those_of_training_are_named(data, said):
    assert re.search(said, told(look(trained(), data, train=TRAIN)))


def test_what_the_model_refuses_about_the_images_is_the_finding():
    report = look(VAE(64, (16,), 2), 255 * TEST.images)
    assert names(report) == ["pixels"] and "divide by 255" in told(report)
    few = look(CVAE(64, 10, (8,), 2), TEST.images, TEST.labels[:9])
    assert names(few) == ["pixels"] and "297 images need 297 conditions y, not 9" in told(few)
    with pytest.raises(ValueError, match="nothing to draw"):
        report.plot()


def test_binary_images_are_no_gaussian_ones():
    images = (TEST.images > 0.5).float()
    report = look(trained(Gaussian, Gaussian), images)
    assert "each pixel is one of two values" in told(report)


@pytest.mark.parametrize(("sigma", "said"), [(1.0, "too large"), (0.01, "too small")])
def test_a_sigma_that_does_not_fit_what_is_left_is_named(sigma, said):
    model = VAE(64, (64,), 6, "gaussian", sigma=sigma)
    fit(model, TRAIN, epochs=2, progress=False)
    assert re.search(f"likelihood sigma: .*sigma is {said}", told(look(model)))


def test_collapse_is_named_and_gone_with_a_smaller_beta():
    for beta, collapsed in ((30.0, True), (1.0, False)):
        model = VAE(64, (64,), 6)
        fit(model, TRAIN, epochs=6, objective=weighted(beta), progress=False)
        assert ("collapse" in names(look(model))) is collapsed


def test_codes_of_an_autoencoder_lie_anywhere_but_at_the_prior():
    model = VAE(64, (64,), 6)
    fit(model, TRAIN, epochs=10, objective=weighted(0.0003), progress=False)
    assert "aggregate posterior" in names(look(model))


@pytest.mark.parametrize(
    ("part", "said"), [("encoder", "was the encoder trained"), ("decoder", "the decoder was not trained")]
)
def test_a_part_that_is_as_it_was_before_training_is_named(part, said):
    model = trained()
    getattr(model, part).load_state_dict(getattr(Own(seed=5), part).state_dict())
    assert said in told(look(model))


def test_dead_relus_and_weights_that_are_no_numbers_are_named():
    dead, broken = trained(), trained()
    with torch.no_grad():
        dead.encoder[0].bias.fill_(-100)
        broken.decoder[0].weight[0, 0] = math.nan
    assert re.search("gradients: .*(dead ReLUs|never move)", told(look(dead)))
    assert told(look(broken)).startswith("weights: 1 of the 384 values of decoder.0.weight are no numbers")


def test_running_means_that_do_not_fit_are_named_and_others_are_not():
    encoder = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 12))
    model = VAE(64, (64,), 6, encoder=encoder)
    fit(model, TRAIN, epochs=8, progress=False)
    assert look(model).illnesses == ()
    encoder[1].running_mean.zero_()
    encoder[1].running_var.fill_(1e-2)
    assert "modes" in names(look(model))


def test_the_conditions_of_a_cvae_are_looked_at():
    model, shuffled = CVAE(64, 10, (64,), 4), CVAE(64, 10, (64,), 4)
    fit(model, TRAIN, epochs=8, progress=False)
    order = torch.randperm(len(TRAIN), generator=torch.Generator().manual_seed(0))
    fit(shuffled, TRAIN.images, y=TRAIN.labels[order], epochs=8, progress=False)
    assert look(model).illnesses == ()
    assert "condition: " in (text := told(look(model, TEST.images, (TEST.labels + 1) % 10)))
    assert "not those of these images" in text
    assert re.search("condition: .*ignores them", told(look(shuffled)))


def test_a_condition_that_tells_little_or_is_the_same_for_all_is_no_illness_and_a_decoder_without_it_is():
    class Blind(nn.Module):
        def __init__(self, decoder):
            super().__init__()
            self.decoder = decoder

        def forward(self, z):
            return self.decoder(z * (torch.arange(z.shape[-1]) < 4))

    model, blind = CVAE(64, 10, (64,), 4), CVAE(64, 10, (64,), 4)
    blind.decoder = Blind(blind.decoder)
    for each in (model, blind):
        fit(each, TRAIN, epochs=8, progress=False)
    assert "condition" not in names(look(model, TEST.subset((TEST.labels == 3).nonzero().flatten())))
    assert "the decoder ignores them" in told(look(blind))

    def grey(data):
        return 5 * data.images.flatten(1).mean(1, keepdim=True)

    little = CVAE(64, 1, (64,), 6)
    fit(little, TRAIN.images, y=grey(TRAIN), epochs=40, progress=False)
    assert look(little, TEST.images, grey(TEST), n_images=297).illnesses == ()


def test_means_that_can_not_be_where_the_pixels_are_are_named():
    def standardised(data):
        return (data.images - TRAIN.images.mean()) / TRAIN.images.std()

    for last, confined in ((nn.Sigmoid(), True), (nn.Identity(), False)):
        decoder = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), last)
        model = VAE(64, (64,), 6, "gaussian", sigma="learned", decoder=decoder)
        fit(model, standardised(TRAIN), progress=False, **SLOW)
        assert ("means" in names(look(model, standardised(TEST)))) is confined


def test_a_decoder_before_training_is_not_taken_for_one_that_ends_in_a_tanh():
    assert "tanh" not in told(look(VAE(64, (64,), 6)))


def test_images_that_are_also_in_training_are_counted():
    both = torch.cat([TRAIN.images[:40], TEST.images])
    report = look(trained(), both, train=TRAIN)
    assert names(report) == ["overlap"] and f"40 of {len(both)}" in told(report)


def test_images_with_grey_pixels_are_told_from_training_images_without():
    cut = (TRAIN.images > 0.5).float()
    assert "other preprocessing" in told(look(trained(), TEST, train=cut))
    assert "other preprocessing" not in told(look(trained(), (TEST.images > 0.5).float(), train=cut))


def test_overfitting_is_a_gap_between_the_elbos():
    model, few = VAE(64, (64,), 8, "gaussian", sigma=0.07), TRAIN.subset(60)
    fit(model, few, epochs=100, learning_rate=5e-3, progress=False)
    assert "overfitting" in names(look(model, TEST, train=few))


def test_weights_of_the_end_are_told_from_those_of_the_best_epoch():
    curve, held_out = weights()[1].elbo, vaelib.evaluation.mean_elbo(trained(), TEST)
    for best, wrong in ((held_out + 3, True), (held_out, False)):
        pairs = [(each, best if epoch == 9 else held_out) for epoch, each in enumerate(curve)]
        assert ("not the best" in told(look(trained(), TEST, history=pairs))) is wrong


def test_a_history_that_is_another_models_breaks_off_or_divides_by_too_little_is_named():
    curve = weights()[1].elbo
    assert look(trained(), TEST, train=TRAIN, history=curve).illnesses == ()
    for wrong, said in (
        ([each + 3 for each in curve], "another model, or other images"),
        ([each * 24 / 23 for each in curve], "a sum of 2[2-6] batches divided by one less"),
        ([*curve, curve[0], *curve[1:]], "did not go on from where it was"),
        ([*curve, math.nan], "NaN"),
        ([-each for each in curve], "other sign, they are a loss"),
    ):
        assert re.search(f"history: .*{said}", told(look(trained(), TEST, train=TRAIN, history=wrong)))


def test_an_objective_of_the_readers_own_is_not_taken_for_the_elbo():
    model = VAE(64, (64,), 6)
    weighted = {"objective": lambda model, x, y, step, generator: model.iwae_bound(x, 8, generator=generator)}
    history = fit(model, TRAIN, epochs=12, progress=False, **weighted)
    assert look(model, TEST, train=TRAIN, history=history).illnesses == ()


def test_a_ratio_alone_does_not_say_that_a_sum_was_divided_by_too_little():
    curve = [each - 1.2 for each in weights()[1].elbo]
    assert re.search("another model.*, or, .*batches", told(look(trained(), TEST, train=TRAIN, history=curve)))


def test_pixels_beyond_their_range_and_weights_that_are_no_numbers_are_both_named():
    broken = trained()
    broken.decoder[0].weight.data[0, 0] = math.nan
    assert names(look(broken, 16 * TEST.images)) == ["pixels", "weights"]


def test_encode_may_return_a_pair_and_optional_methods_may_take_something_else():
    for kind in (tuple, list):
        assert look(trained(encode=lambda m, x, kind=kind: kind(Own.encode(m, x)))).illnesses == ()
    other = trained(sample=lambda m, n, device: None, log_weights=lambda m, x: None)
    assert look(other).illnesses == () and "sample(120) fails" in str(look(other))


def test_whole_numbers_for_a_model_of_the_readers_own_and_training_images_of_another_size_are_findings():
    whole = (255 * TEST.images).to(torch.uint8)
    assert "divide by 255" in told(look(trained(), whole))
    assert "those of training (10, 10)" in told(look(trained(), TEST, train=torch.rand(50, 10, 10)))
    assert look(trained(), TEST, train=TRAIN.images.flatten(1)).illnesses == ()


# --- what it leaves alone, what it refuses, what it returns ---


def test_a_diagnosis_leaves_model_and_generators_as_they_were_and_draws_the_same_noise():
    encoder = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Dropout(0.2), nn.Linear(32, 8))
    model = VAE(64, (32,), 4, "gaussian", sigma="learned", encoder=encoder).train()
    model.decoder[0].eval()
    fit(model, TRAIN.subset(200), epochs=2, progress=False)
    model.elbo(TRAIN.images[:10]).elbo.mean().backward()
    before = copy.deepcopy(model.state_dict())
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    modes = [layer.training for layer in model.modules()]
    noise, states = torch.get_rng_state(), (np.random.get_state()[1].copy(), random.getstate())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = (str(look(model, TEST, train=TRAIN)) for _ in range(2))
    assert first == second
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert all(torch.equal(one, parameter.grad) for one, parameter in zip(gradients, model.parameters(), strict=True))
    assert modes == [layer.training for layer in model.modules()]
    assert torch.equal(noise, torch.get_rng_state()) and states[1] == random.getstate()
    assert (states[0] == np.random.get_state()[1]).all()

    class DrawsByNumPy(Own):
        def noise(self, mu, generator):
            return torch.from_numpy(np.random.standard_normal(mu.shape)).to(mu)

    assert look(trained(DrawsByNumPy)).illnesses == ()
    assert (states[0] == np.random.get_state()[1]).all()


def test_a_model_that_remembers_its_last_batch_and_draws_from_the_global_generator_can_be_looked_at():
    class Remembers(Own):
        def elbo(self, x):
            mu, log_var = self.encode(x)
            self.z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
            return self.log_likelihood(x, self.decode(self.z)) - self.kl(mu, log_var)

    model = trained(Remembers)
    kept = model.elbo(TEST.images[:3]) is not None and model.z
    assert look(model).illnesses == ()
    assert model.z is kept


def test_images_come_in_every_form_and_a_model_of_pixels_in_rows_and_columns_is_looked_at():
    vae = VAE((1, 8, 8), (64,), 6)
    fit(vae, TRAIN, epochs=8, progress=False)
    images = TEST.images
    forms = (TEST, images, images.numpy(), images.flatten(1), images[:, None].double())
    reports = {str(look(vae, data, n_images=60)) for data in forms}
    assert len(reports) == 1 and "No illness found." in (report := reports.pop())
    assert max(map(len, report.splitlines())) <= 80


def test_a_likelihood_must_be_known_and_a_bound_of_probabilities_is_not_one_of_logits():
    def decode(model, z):
        return torch.sigmoid(model.decoder(z))

    def bound(model, x, p):
        return -F.binary_cross_entropy(p, x.flatten(1).expand_as(p), reduction="none").sum(-1)

    assert "decode is to return logits" in told(look(trained(decode=decode, log_likelihood=bound)))
    with pytest.raises(TypeError, match="likelihood='bernoulli'"):
        look(trained(likelihood=None))
    assert look(trained(likelihood=None), likelihood="bernoulli").illnesses == ()


def test_a_report_is_printed_once_and_shows_codes_and_images(capsys):
    report = diagnose(trained(), TEST, n_images=100)
    assert capsys.readouterr().out == f"{report}\n"
    assert look(trained()) and capsys.readouterr().out == ""
    assert "100 images of 64 pixels" in report.title and "No illness found." in str(report)
    assert all(finding.text and finding.name for finding in report.findings)
    units, spread, images = report.plot()
    assert len(units.patches) == 6 and spread.get_legend() and images.images
    heights = [bar.get_height() for bar in units.patches]
    assert heights == sorted(heights, reverse=True)
    plt.close("all")


@pytest.mark.parametrize(
    ("model", "data", "settings", "error", "said"),
    [
        (
            nn.Linear(2, 2),
            TEST,
            {},
            TypeError,
            "diagnose needs encode, decode, elbo of a model, and Linear lacks encode",
        ),
        (VAE, TEST, {}, TypeError, "is a class"),
        (Own(), TEST.images[:5], {}, ValueError, "at least 16 images, and there are 5"),
        (Own(), "images", {}, TypeError, "read the pictures first"),
        (Own(), TEST, {"n_images": 0}, ValueError, "n_images must be"),
        (Own(), TEST, {"history": []}, ValueError, "no finished epoch"),
        (Own(), TEST, {"likelihood": "poisson"}, ValueError, "unknown likelihood"),
        (Own(), TEST, {"n_images": 3}, ValueError, "at least 16 images, and there are 3"),
        (Own(), torch.rand(50), {}, ValueError, r"shape \(50,\): give \(N, D\)"),
        (Own(), TEST, {"train": TRAIN.images[:1]}, ValueError, "16 images of training, and there are 1"),
        (Own(), TEST, {"train": (TRAIN.images,) * 3}, ValueError, "train has 3 parts"),
        (Own(), TEST, {"history": "abc"}, TypeError, "history is a str: give what fit returned"),
        (Own(), TEST, {"history": [-30.0, (-25.0, -26.0)]}, TypeError, "history is a list"),
        (Own(), TEST, {"history": ([-30.0, -25.0, -24.0],) * 2}, ValueError, "3 numbers an epoch: give pairs"),
        (Own(), TEST, {"generator": 3}, TypeError, "generator must be a torch.Generator"),
        (Autoencoder(64, (8,), 2), TEST, {}, TypeError, "has no bound to look at: write `def elbo"),
    ],
)
def test_what_can_not_be_looked_at_is_refused_by_name(model, data, settings, error, said):
    with pytest.raises(error, match=said):
        diagnose(model, data, show=False, **settings)


def test_a_decoder_of_another_size_and_an_encoder_without_a_posterior_are_refused_by_name():
    short = trained(decode=lambda m, z: m.decoder(z)[:, :50], elbo=lambda m, x: x.flatten(1).sum(1))
    with pytest.raises(TypeError, match="one number for each of 64 pixels"):
        look(short)
    bound = {"elbo": lambda m, x: x.flatten(1).sum(1)}
    with pytest.raises(TypeError, match="needs a posterior"):
        look(trained(encode=lambda m, x: x, **bound))
    with pytest.raises(TypeError, match=r"a tuple of \(120, 6\), \(120, 1\): diagnose needs a posterior"):
        look(trained(encode=lambda m, x: (Own.encode(m, x).mu, Own.encode(m, x).log_var[:, :1]), **bound))
    with pytest.raises(TypeError, match="decode returns a tuple for 120 codes"):
        look(trained(decode=lambda m, z: (m.decoder(z), z), **bound))
    with pytest.raises(TypeError, match=r"elbo returns a tuple: diagnose needs ElboTerms\(log_likelihood, kl\)"):
        look(trained(elbo=lambda m, x: tuple(Own.elbo(m, x))))


def test_a_bound_that_is_one_number_for_the_batch_is_a_finding():
    report = look(trained(elbo=lambda m, x: Own.elbo(m, x).elbo.mean()))
    assert names(report) == ["bound"] and "one value per example" in told(report)


def test_the_doctor_comes_with_the_package_when_it_is_named():
    assert vaelib.diagnose is diagnose and "diagnose" in dir(vaelib)
    assert list(inspect.signature(diagnose).parameters)[:3] == ["model", "data", "y"]
