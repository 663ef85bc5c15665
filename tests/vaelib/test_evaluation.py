"""What is reported of a model: the test ELBO, the log evidence against exact models, the active units."""

import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from vaelib import evaluation
from vaelib.cvae import CVAE
from vaelib.evaluation import bits_per_dimension, log_evidence, mean_elbo
from vaelib.exact import LinearGaussian
from vaelib.likelihoods import DiscretisedLogistic
from vaelib.vae import VAE


def images(n: int) -> torch.Tensor:
    return torch.rand(n, 4, 4, generator=torch.Generator().manual_seed(0))


def test_the_mean_is_over_images_and_not_over_batches(monkeypatch):
    vae = VAE(16, (8,), 3)
    monkeypatch.setattr(evaluation, "_ROWS", 40)
    noise = torch.Generator().manual_seed(0)
    parts = [
        vae.elbo(images(101)[rows], generator=noise).elbo for rows in (slice(0, 40), slice(40, 80), slice(80, 101))
    ]
    assert evaluation.mean_elbo(vae, images(101)) == pytest.approx(torch.cat(parts).mean().item(), rel=1e-6)


def test_z_is_sampled_so_that_the_number_is_a_bound_and_not_the_better_one_at_the_mean():
    vae = VAE(16, (), 3)
    with torch.no_grad():
        # A decoder that depends on z, and a posterior as wide as the prior: the mean looks better than any sample.
        vae.decoder[0].weight.mul_(6)
        vae.encoder[0].weight[3:] = 0
    x = images(2000)
    mu, _ = vae.encode(x)
    at_the_mean = (vae.log_likelihood(x.flatten(1), vae.decode(mu)) - vae.elbo(x).kl).mean().item()
    assert evaluation.mean_elbo(vae, x) < at_the_mean - 0.5
    other_noise = evaluation.mean_elbo(vae, x, generator=torch.Generator().manual_seed(9))
    assert other_noise != evaluation.mean_elbo(vae, x) == evaluation.mean_elbo(vae, x)


def test_no_images_are_an_error_and_never_nan():  # FAULTS 19
    with pytest.raises(ValueError, match="no images to evaluate"):
        evaluation.mean_elbo(VAE(16, (8,), 3), images(0))


def test_images_that_the_model_refuses_are_named():
    with pytest.raises(ValueError, match="divide by 255"):
        evaluation.mean_elbo(VAE(16, (8,), 3), 255 * images(3))


def linear_gaussian(blur: float = 1.0, latent_dim: int = 3) -> tuple[VAE, LinearGaussian]:
    """A linear VAE in float64 with its exact model; q has the exact mean, and `blur` times the exact spread."""
    data_dim, sigma = 6, 0.5
    noise = torch.Generator().manual_seed(2)
    weight = torch.linalg.qr(torch.randn(data_dim, latent_dim, generator=noise, dtype=torch.float64)).Q
    bias = torch.randn(data_dim, generator=noise, dtype=torch.float64)
    exact = LinearGaussian(weight, bias, sigma)
    _, covariance = exact.posterior(bias.unsqueeze(0))
    encoder, decoder = nn.Linear(data_dim, 2 * latent_dim), nn.Linear(latent_dim, data_dim)
    with torch.no_grad():
        to_mean = covariance @ weight.T / sigma**2
        encoder.weight.copy_(torch.cat([to_mean, torch.zeros_like(to_mean)]))
        log_var = covariance.diagonal().log() + 2 * math.log(blur)
        encoder.bias.copy_(torch.cat([-to_mean @ bias, log_var]))
        decoder.weight.copy_(weight)
        decoder.bias.copy_(bias)
    vae = VAE(data_dim, (), latent_dim, likelihood="gaussian", sigma=sigma, encoder=encoder, decoder=decoder)
    return vae.double(), exact


def test_log_evidence_agrees_with_the_exact_one_within_three_standard_errors():
    vae, exact = linear_gaussian(blur=1.5)
    x = exact.sample(300, torch.Generator().manual_seed(3))
    estimate = evaluation.log_evidence(vae, x, 2000)
    error = estimate - exact.log_evidence(x)
    # 2,000 samples leave a bias of 1e-4 nats, a tenth of the standard error of this mean.
    assert error.mean().abs() < 3 * error.std() / math.sqrt(len(x))
    assert error.std() < 0.05


def test_bounds_are_ordered_and_grow_with_the_samples_towards_the_exact_log_evidence():
    vae, exact = linear_gaussian(blur=2.0)
    x = exact.sample(2000, torch.Generator().manual_seed(3))
    elbo = vae.elbo(x, generator=torch.Generator().manual_seed(4)).elbo.mean().detach()
    bounds = [evaluation.log_evidence(vae, x, samples).mean() for samples in (1, 5, 25, 125, 625)]
    evidence = exact.log_evidence(x).mean()
    # The gap of the ELBO is 3 (4 - 1 - log 4) / 2 = 2.4 nats; with one sample the bound is the ELBO.
    assert bounds[0] == pytest.approx(elbo.item(), abs=0.15)
    assert evidence - elbo == pytest.approx(1.5 * (3 - math.log(4)), abs=0.15)
    gaps = [(evidence - bound).item() for bound in bounds]
    assert all(later < earlier / 2 for earlier, later in pairwise(gaps) if earlier > 0.02)
    assert abs(gaps[-1]) < 0.01


def test_the_naive_estimate_from_the_prior_has_the_same_mean_and_a_larger_spread():
    vae, exact = linear_gaussian(blur=1.2)
    x = exact.sample(100, torch.Generator().manual_seed(3))
    ratio = {
        proposal: (evaluation.log_evidence(vae, x, 5000, proposal=proposal) - exact.log_evidence(x)).exp()
        for proposal in ("posterior", "prior")
    }
    for found in ratio.values():
        assert (found.mean() - 1).abs() < 4 * found.std() / math.sqrt(len(x))
    assert ratio["prior"].std() > 3 * ratio["posterior"].std()
    with pytest.raises(ValueError, match="choose 'posterior' or 'prior'"):
        evaluation.log_evidence(vae, x, 10, proposal="q")


def test_samples_in_several_parts_are_samples_at_once(monkeypatch):
    vae, exact = linear_gaussian(blur=1.5)
    x = exact.sample(10, torch.Generator().manual_seed(3))
    noise = torch.Generator().manual_seed(5)
    at_once = torch.cat([vae.log_weights(x, part, noise) for part in (4, 4, 2)])
    # Four samples of 32 images at a time: 6 pixels x 32 images x 4.
    monkeypatch.setitem(evaluation._NUMBERS, "cpu", 6 * 32 * 4)
    parts = evaluation.log_evidence(vae, x, 10, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(parts, torch.logsumexp(at_once, 0) - math.log(10))


def test_images_keep_their_order_over_batches_and_conditions_go_with_them():
    cvae = CVAE(6, 2, (8,), 3, likelihood="gaussian", prior="conditional")
    x, y = torch.randn(75, 6, generator=torch.Generator().manual_seed(1)), torch.arange(75) % 2
    together = evaluation.log_evidence(cvae, x, 3000, y)
    alone = torch.cat([evaluation.log_evidence(cvae, x[i : i + 1], 3000, y[i : i + 1]) for i in (0, 31, 32, 33, 74)])
    # Other noise: an error of some 0.02 nats, where the images themselves differ by nats.
    assert (together[[0, 31, 32, 33, 74]] - alone).abs().max() < 0.15 < together.std()
    swapped = evaluation.log_evidence(cvae, x, 3000, 1 - y)
    assert (together - swapped).abs().max() > 0.3


def test_memory_does_not_grow_with_the_samples():
    pytest.importorskip("resource")  # which Windows lacks
    program = (
        "import resource, torch\n"
        "from vaelib.evaluation import log_evidence\n"
        "from vaelib.vae import VAE\n"
        "vae, x = VAE(784, (20,), 5), torch.rand(64, 784)\n"
        "log_evidence(vae, x, 50)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "log_evidence(vae, x, 4000)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    grown = int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    # At once they would be 64 x 4,000 x 784 numbers, 800 MB; ru_maxrss counts in kB on Linux and bytes on macOS.
    assert grown < 40_000 * (1024 if sys.platform == "darwin" else 1)


def test_log_evidence_of_no_images_is_empty_and_no_samples_are_refused():
    vae, exact = linear_gaussian()
    assert evaluation.log_evidence(vae, torch.zeros(0, 6, dtype=torch.float64), 10).shape == (0,)
    for n_samples in (0, -1, 2.5):
        with pytest.raises(ValueError, match="n_samples must be a whole number of at least 1"):
            evaluation.log_evidence(vae, exact.sample(2), n_samples)
    with pytest.raises(ValueError, match="there are 2 images and 3 conditions"):
        evaluation.log_evidence(CVAE(6, 2, (), 3), torch.rand(2, 6), 5, torch.tensor([0, 1, 1]))


def test_the_same_noise_is_used_unless_a_generator_is_given_and_gradients_are_not():
    vae, exact = linear_gaussian(blur=2.0)
    x = exact.sample(5, torch.Generator().manual_seed(3))
    first = evaluation.log_evidence(vae, x, 10)
    assert torch.equal(first, evaluation.log_evidence(vae, x, 10)) and not first.requires_grad
    assert not torch.equal(first, evaluation.log_evidence(vae, x, 10, generator=torch.Generator().manual_seed(1)))


def test_mean_elbo_of_a_conditional_model_uses_each_image_s_own_condition():
    cvae = CVAE(16, 3, (8,), 2)
    x, y = images(30), torch.arange(30) % 3
    noise = torch.Generator().manual_seed(0)
    expected = cvae.elbo(x, y, generator=noise).elbo.mean().item()
    assert evaluation.mean_elbo(cvae, x, y) == pytest.approx(expected, rel=1e-6)
    assert evaluation.mean_elbo(cvae, x.numpy(), y.numpy()) == pytest.approx(expected, rel=1e-6)
    assert evaluation.mean_elbo(cvae, x, y.flip(0)) != pytest.approx(expected, rel=1e-6)


def test_active_units_are_the_dimensions_whose_mean_moves_with_the_image():
    vae = VAE(16, (), 3)
    with torch.no_grad():
        vae.encoder[0].weight.zero_()
        vae.encoder[0].bias.fill_(1.0)
        vae.encoder[0].weight[1, 0] = 1.0  # mean of dimension 1: the first pixel, whose variance is 1/12
        vae.encoder[0].weight[2, 0] = 0.3  # dimension 2: 0.09 / 12 = 0.0075
        vae.encoder[0].weight[4, 0] = 9.0  # a variance that moves makes no active unit
    x = images(3000)
    assert evaluation.active_units(vae, x).tolist() == [False, True, False]
    assert evaluation.active_units(vae, x, threshold=0.005).tolist() == [False, True, True]
    with pytest.raises(ValueError, match="active units need two images or more, not 1"):
        evaluation.active_units(vae, x[:1])


def test_the_former_name_of_mean_elbo_is_served_with_a_warning_and_no_other_name_is():
    with pytest.warns(DeprecationWarning, match="test_elbo is now mean_elbo") as said:
        assert evaluation.test_elbo is evaluation.mean_elbo
    assert said[0].filename == __file__  # it points to the line that has the old name
    assert "test_elbo" not in dir(evaluation)
    with pytest.raises(AttributeError, match="has no attribute"):
        evaluation.test_loss  # noqa: B018


def test_a_model_without_an_elbo_is_named_with_what_it_lacks():
    with pytest.raises(TypeError, match="mean_elbo"):
        evaluation.mean_elbo(torch.nn.Linear(16, 1), images(3))


def test_the_bar_of_log_evidence_ends_at_the_number_of_images(capsys, monkeypatch):
    monkeypatch.setattr(evaluation._progress, "stream", lambda: sys.stderr)
    evaluation.log_evidence(VAE(16, (8,), 3), images(70), n_samples=2, progress=True)
    assert "70/70" in capsys.readouterr().err


# Bits per dimension


def colour_model(likelihood, **more) -> VAE:
    return VAE((3, 2, 2), (), 2, likelihood=likelihood, **more)


def test_bits_of_256_equally_likely_grey_values_are_eight():
    nats = -12 * math.log(256)
    assert bits_per_dimension(colour_model("discretised_logistic"), nats) == pytest.approx(8, abs=1e-12)
    assert bits_per_dimension(VAE(5, (), 2, likelihood="bernoulli"), -5 * math.log(2), levels=2) == pytest.approx(1)


def test_a_uniform_density_has_the_bits_of_the_intervals_that_it_is_cut_into():
    # Density 1 on [0, 1]: an interval of width 1/255 has the probability 1/255, in bits log2 255.
    model = colour_model("gaussian")
    assert bits_per_dimension(model, 0.0, levels=256) == pytest.approx(math.log2(255), abs=1e-12)
    assert bits_per_dimension(model, 0.0, levels=17) == 4
    each = bits_per_dimension(model, torch.tensor([0.0, 12 * math.log(2)]), levels=17)
    torch.testing.assert_close(each, torch.tensor([4.0, 3.0]))


def test_a_wide_density_and_the_same_density_cut_into_intervals_have_the_same_bits():
    # N(m, 0.2^2) hardly changes over 1/255: its density times the width is the probability of the interval.
    sigma, draw = 0.2, np.random.default_rng(0)
    x = draw.integers(0, 256, 12) / 255
    mean = draw.uniform(0.2, 0.8, 12)
    cut = stats.norm.cdf(x + 0.5 / 255, mean, sigma) - stats.norm.cdf(x - 0.5 / 255, mean, sigma)
    model = colour_model("gaussian", sigma=sigma)
    shaped = [torch.tensor(each).float().view(1, 3, 2, 2) for each in (x, mean)]
    nats = model.log_likelihood(*shaped).item()
    assert bits_per_dimension(model, nats, levels=256) == pytest.approx(-np.log2(cut).mean(), abs=1e-4)


def test_what_evaluation_returns_has_bits(recwarn):
    model = colour_model("discretised_logistic")
    x = (torch.rand(9, 3, 2, 2, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
    elbo, evidence = mean_elbo(model, x), log_evidence(model, x, 50)
    assert bits_per_dimension(model, elbo) == pytest.approx(-elbo / 12 / math.log(2))
    assert bits_per_dimension(model, evidence).shape == (9,)
    assert bits_per_dimension(model, evidence).mean() < bits_per_dimension(model, elbo)


@pytest.mark.parametrize(
    ("model", "levels", "said"),
    [
        (colour_model("gaussian"), None, "of a density, which has no bits before .* levels=256"),
        (colour_model("gaussian"), 1, "levels - 1 must be a whole number"),
        (colour_model("gaussian"), 2.5, "levels - 1 must be a whole number"),
        (colour_model("bernoulli"), None, "For binary pixels give levels=2; for grey ones and colour take"),
        (colour_model("bernoulli"), 256, "pixels of 0 and 1 alone"),
        (colour_model(DiscretisedLogistic(17)), 256, "levels=256, and the likelihood is one of 17 levels"),
    ],
)
def test_nats_that_are_no_bits_are_refused_with_the_reason(model, levels, said):
    with pytest.raises(ValueError, match=said):
        bits_per_dimension(model, -3.0, levels)


def test_bits_need_a_model_that_says_what_its_nats_are_of():
    with pytest.raises(TypeError, match=r"needs likelihood, data_shape of a model"):
        bits_per_dimension(torch.nn.Linear(2, 2), -3.0)
    with pytest.raises(TypeError, match="the model, which comes first"):
        bits_per_dimension(-3.0, 12)
