"""Likelihoods: against torch.distributions and sums over all values, and what a likelihood of one's own needs."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Normal

from vaelib.cvae import CVAE
from vaelib.likelihoods import Bernoulli, DiscretisedLogistic, Gaussian
from vaelib.vae import VAE


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def decoded(n: int = 5, dim: int = 7) -> torch.Tensor:
    return torch.randn(n, dim, generator=generator(3))


def test_bernoulli_is_that_of_torch_distributions():
    logits, oracle = decoded(), TorchBernoulli(logits=decoded())
    x = torch.bernoulli(torch.full((5, 7), 0.4), generator=generator(1))
    torch.testing.assert_close(Bernoulli().log_prob(x, logits), oracle.log_prob(x).sum(-1))
    torch.testing.assert_close(Bernoulli().mean(logits), oracle.mean)
    torch.testing.assert_close(Bernoulli().mean(Bernoulli().start(oracle.mean)), oracle.mean)


def test_gaussian_is_that_of_torch_distributions():
    mean, x = decoded(), decoded(5) + 0.1
    torch.testing.assert_close(Gaussian(0.3).log_prob(x, mean), Normal(mean, 0.3).log_prob(x).sum(-1))
    assert Gaussian("learned").log_sigma.requires_grad and not Gaussian(0.3).log_sigma.requires_grad


def test_probabilities_of_all_grey_values_sum_to_one():
    likelihood = DiscretisedLogistic(levels=16, scale=0.03)
    locations = torch.tensor([-0.2, 0.0, 0.31, 0.5, 1.0, 1.4]).unsqueeze(1)
    values = (torch.arange(16) / 15).view(16, 1, 1)
    total = likelihood.log_prob(values.expand(16, 6, 1), locations.expand(16, 6, 1)).double().exp().sum(0)
    torch.testing.assert_close(total, torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-6)


def test_a_discretised_logistic_is_the_difference_of_two_logistic_functions_in_float64():
    likelihood = DiscretisedLogistic(scale=0.05)
    x = torch.randint(1, 255, (200, 1), generator=generator()) / 255
    location = torch.rand(200, 1, generator=generator(1))
    h, m, scale = 0.5 / 255, location.double(), likelihood.log_scale.double().exp()
    oracle = torch.sigmoid((x.double() + h - m) / scale) - torch.sigmoid((x.double() - h - m) / scale)
    # float32 against float64: seven digits in each of three logarithms.
    torch.testing.assert_close(likelihood.log_prob(x, location).double().exp(), oracle.squeeze(1), rtol=1e-4, atol=0)


def test_far_from_its_location_a_value_keeps_a_finite_logarithm_and_gradient():
    likelihood = DiscretisedLogistic(scale=0.001)
    location = torch.tensor([[0.0], [1.0], [1e4]], requires_grad=True)
    value = likelihood.log_prob(torch.tensor([[200 / 255]]).expand(3, 1), location)
    value.sum().backward()
    assert torch.isfinite(value).all() and torch.isfinite(location.grad).all() and (location.grad != 0).all()


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.2), DiscretisedLogistic(32, 0.1)])
def test_samples_have_the_mean_that_is_stated(likelihood):
    where = torch.tensor([[-0.4, 0.1, 0.5, 0.9, 1.2]])
    with torch.no_grad():
        samples = likelihood.sample(where.expand(40_000, 5), generator(2))
        mean = likelihood.mean(where)[0]
    # Five standard errors of 40,000 draws.
    error = samples.std(0) / math.sqrt(40_000)
    assert ((samples.mean(0) - mean).abs() < 5 * error + 1e-6).all()


def test_samples_of_a_discretised_logistic_are_levels_with_the_stated_probabilities():
    likelihood = DiscretisedLogistic(levels=5, scale=0.2)
    where = torch.full((50_000, 1), 0.4)
    with torch.no_grad():
        samples = likelihood.sample(where, generator(1))
        stated = likelihood.log_prob((torch.arange(5) / 4).view(5, 1), where[:5]).exp()
    shares = torch.stack([(samples == level / 4).float().mean() for level in range(5)])
    # The standard error of a share is at most 0.5 / sqrt(50,000) = 0.0022.
    torch.testing.assert_close(shares, stated, rtol=0, atol=0.011)


def test_pixels_between_the_levels_are_refused_with_the_remedy_that_helps():
    vae = VAE(4, (3,), 2, likelihood=DiscretisedLogistic())
    x = torch.rand(6, 4, generator=generator())
    with pytest.raises(ValueError, match=r"round with \(x \* 255\).round\(\) / 255"):
        vae.elbo(x)
    assert vae.elbo((x * 255).round() / 255).elbo.shape == (6,)


@pytest.mark.parametrize("layer", [nn.Sigmoid(), nn.Tanh(), nn.Softmax(-1), nn.Hardsigmoid(), nn.ReLU()])
@pytest.mark.parametrize("neutral", [nn.Identity(), nn.Unflatten(1, (1, 4)), nn.Dropout(0.1)])
def test_a_decoder_that_can_t_give_logits_is_refused_by_name(layer, neutral):  # FAULTS 61
    decoder = nn.Sequential(nn.Linear(2, 4), layer, neutral)
    with pytest.raises(ValueError, match=f"ends in {type(layer).__name__}, and a Bernoulli likelihood takes logits"):
        VAE(4, (), 2, decoder=decoder)
    with pytest.raises(ValueError, match="logits"):
        CVAE(4, 3, (), 2, decoder=decoder)
    for likelihood in ("gaussian", DiscretisedLogistic()):
        VAE(4, (), 2, likelihood=likelihood, decoder=decoder)


def test_obeying_the_refusal_gives_a_model_that_trains():
    VAE(4, (), 2, decoder=nn.Sequential(nn.Linear(2, 4))).elbo(torch.rand(3, 4)).elbo.mean().backward()


class Probabilities(nn.Module):
    """Ends in a sigmoid that no list of layers shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 4)

    def forward(self, z):
        return torch.sigmoid(self.layer(z))


def test_outputs_that_all_look_like_probabilities_are_warned_about_once():  # FAULTS 61
    vae = VAE(4, (), 2, decoder=Probabilities())
    with pytest.warns(UserWarning, match="a Bernoulli likelihood takes logits") as caught:
        vae.elbo(torch.rand(30, 4))
        vae.elbo(torch.rand(30, 4))
    assert len(caught) == 1


@pytest.mark.parametrize("options", [{}, {"decoder": nn.Linear(2, 4)}, {"likelihood": "gaussian"}])
def test_an_honest_decoder_is_not_warned_about(options, recwarn):
    VAE(4, (), 2, **options).elbo(torch.rand(30, 4))
    assert not recwarn.list


class Laplace:
    """A likelihood of the reader's own: a name and four methods."""

    name = "laplace"

    def log_prob(self, x, decoded):
        return -((x - decoded).abs() + math.log(2)).sum(-1)

    def mean(self, decoded):
        return decoded

    def sample(self, decoded, generator=None):
        return decoded

    def check(self, x):
        if (x < -5).any():
            raise ValueError("too far out")


def test_a_likelihood_of_one_s_own_needs_a_name_and_four_methods():
    vae, x = VAE(4, (), 2, likelihood=Laplace()), torch.rand(3, 4)
    torch.testing.assert_close(vae.log_likelihood(x, x + 1), torch.full((3,), -4 * (1 + math.log(2))))
    vae.start_at_mean(x)
    assert vae.sample(2, generator()).shape == (2, 4)
    with pytest.raises(ValueError, match="too far out"):
        vae.elbo(x - 9)
    with pytest.raises(TypeError, match="object is no likelihood: it lacks name, log_prob, mean, sample, check"):
        VAE(4, (), 2, likelihood=object())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(0.0), "sigma must be a positive number or 'learned', not 0.0"),
        (lambda: Gaussian("free"), "'learned', not 'free'"),
        (lambda: Gaussian(math.nan), "positive number"),
        (lambda: DiscretisedLogistic(levels=1), "levels - 1 must be a whole number of at least 1, not 0"),
        (lambda: DiscretisedLogistic(scale=-1), "scale must be a positive number, not -1"),
        (lambda: VAE(4, (), 2, sigma=0.3), "sigma=0.3 belongs to likelihood='gaussian'"),
        (lambda: VAE(4, (), 2, likelihood=Gaussian(0.3), sigma=0.5), "sigma=0.5 belongs"),
        (lambda: VAE(4, (), 2, likelihood="poisson"), "choose 'bernoulli' or 'gaussian', or give an object"),
    ],
)
def test_settings_that_can_t_be_right_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_former_comparison_with_a_name_holds():
    assert VAE(4, (), 2).likelihood == "bernoulli" and VAE(4, (), 2, likelihood=Gaussian()).likelihood == "gaussian"
    assert VAE(4, (), 2).likelihood != "gaussian" and Bernoulli() != Bernoulli()


# Colour


@pytest.mark.parametrize("likelihood", [Gaussian("learned"), DiscretisedLogistic(256, 0.05)])
def test_an_image_in_colour_has_the_log_likelihood_of_its_numbers_in_a_row(likelihood):
    colour, flat = VAE((3, 4, 5), (), 2, likelihood=likelihood), VAE(60, (), 2, likelihood=likelihood)
    x = (torch.rand(7, 3, 4, 5, generator=generator()) * 255).round() / 255
    decoded = torch.rand(6, 7, 3, 4, 5, generator=generator(1))
    found = colour.log_likelihood(x, decoded)
    torch.testing.assert_close(found, flat.log_likelihood(x.flatten(1), decoded.flatten(2)))
    by_hand = sum(likelihood.log_prob(x[:, c].flatten(1), decoded[:, :, c].flatten(2)) for c in range(3))
    torch.testing.assert_close(found, by_hand)
    assert colour.elbo(x).elbo.shape == (7,) and colour.mean(decoded).shape == decoded.shape


@pytest.mark.parametrize("scale", [0.0005, 0.004, 0.05, 0.5])
@pytest.mark.parametrize("where", [-0.2, 0.0, 0.3333, 1.0, 1.1])
def test_256_grey_values_have_probabilities_that_sum_to_one_and_are_those_of_a_logistic_variable(scale, where):
    likelihood = DiscretisedLogistic(256, scale).double()
    values = torch.arange(256, dtype=torch.float64) / 255
    with torch.no_grad():
        log_prob = likelihood.log_prob(values[:, None], torch.full((256, 1), where, dtype=torch.float64))
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-9)
    scale = likelihood.log_scale.exp().item()  # in float32
    ends = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    # From the nearer tail: a difference of two numbers close to 1 would have no digits left.
    below, above = (stats.logistic(where, scale).cdf(ends), stats.logistic(where, scale).sf(ends))
    wanted = np.where(ends[1:] <= where, np.diff(below), -np.diff(above))
    np.testing.assert_allclose(log_prob.exp().numpy(), wanted, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("scale", [0.001, 0.0039, 0.004, 0.03, 0.4])
def test_the_mean_of_256_grey_values_is_that_of_their_probabilities(scale):
    likelihood = DiscretisedLogistic(256, scale)
    where = torch.linspace(-0.3, 1.3, 41)
    values = torch.arange(256) / 255
    with torch.no_grad():
        log_prob = likelihood.log_prob(values[:, None, None], where[None, :, None])
        # 1e-4: a fortieth of a grey value, which is what the docstring grants the integral.
        torch.testing.assert_close(likelihood.mean(where), (log_prob.exp() * values[:, None]).sum(0), rtol=0, atol=1e-4)


def test_a_name_gives_256_grey_values():
    vae = VAE((3, 4, 4), (), 2, likelihood="discretised_logistic")
    assert isinstance(vae.likelihood, DiscretisedLogistic) and vae.likelihood.levels == 256
    assert vae.config["likelihood"] == "discretised_logistic"
