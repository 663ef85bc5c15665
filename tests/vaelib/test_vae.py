"""The VAE: its bound against models whose evidence is exact, its shapes, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from vaelib.exact import LinearGaussian
from vaelib.vae import VAE


def pixels(n: int = 6, dim: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, dim, generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact_vae(sigma: float = 0.6) -> tuple[VAE, LinearGaussian]:
    """A VAE whose decoder is linear and whose encoder is the exact posterior of that linear-Gaussian model.

    The columns of the weight are orthogonal, so that the posterior covariance is diagonal, as q's is.
    """
    data_dim, latent_dim = 5, 2
    weight = torch.linalg.qr(torch.randn(data_dim, latent_dim, generator=generator(3), dtype=torch.float64)).Q
    weight = weight * torch.tensor([2.0, 0.5], dtype=torch.float64)
    bias = torch.randn(data_dim, generator=generator(4), dtype=torch.float64)
    exact = LinearGaussian(weight, bias, sigma)
    _, covariance = exact.posterior(bias.unsqueeze(0))
    encoder, decoder = nn.Linear(data_dim, 2 * latent_dim), nn.Linear(latent_dim, data_dim)
    with torch.no_grad():
        to_mean = covariance @ weight.T / sigma**2
        encoder.weight.copy_(torch.cat([to_mean, torch.zeros_like(to_mean)]))
        encoder.bias.copy_(torch.cat([-to_mean @ bias, covariance.diagonal().log()]))
        decoder.weight.copy_(weight)
        decoder.bias.copy_(bias)
    vae = VAE(data_dim, (), latent_dim, likelihood="gaussian", sigma=sigma, encoder=encoder, decoder=decoder)
    return vae.double(), exact


def test_elbo_equals_the_log_evidence_when_q_is_the_exact_posterior():
    vae, exact = exact_vae()
    x = exact.sample(50, generator(1))
    noise = vae.elbo(x, n_samples=4000, generator=generator(2)).elbo - exact.log_evidence(x)
    # Only the likelihood is sampled; its spread over z falls as 1/sqrt(4000).
    spread = torch.stack([vae.elbo(x, generator=generator(s)).log_likelihood for s in range(400)]).std(0)
    assert (noise.abs() < 4.5 * spread / math.sqrt(4000)).all()


def test_iwae_bound_is_exact_for_every_sample_when_q_is_the_exact_posterior():
    vae, exact = exact_vae()
    x = exact.sample(200, generator(1))
    for n_samples in (1, 7):
        # Every importance weight is p(x); log_sigma is stored in float32, hence 1e-5.
        bound = vae.iwae_bound(x, n_samples, generator(5))
        torch.testing.assert_close(bound, exact.log_evidence(x), rtol=1e-5, atol=1e-5)


def test_elbo_never_exceeds_log_evidence_and_iwae_lies_between():
    vae, exact = exact_vae()
    with torch.no_grad():
        vae.encoder.bias += torch.tensor([0.4, -0.3, 0.8, -0.6])
    x = exact.sample(2000, generator(1))
    evidence = exact.log_evidence(x).mean()
    elbo = vae.elbo(x, n_samples=200, generator=generator(2)).elbo.mean()
    bounds = [vae.iwae_bound(x, k, generator(2)).mean() for k in (2, 20, 200)]
    # The gaps are tenths of a nat, the standard errors of 2,000 images hundredths.
    assert elbo + 0.02 < bounds[0] < bounds[1] < bounds[2] < evidence + 0.01
    assert evidence - bounds[2] < 0.02


def test_elbo_terms_are_those_of_torch_distributions_at_the_same_noise():
    vae, x = VAE(16, (8,), 3, seed=1), pixels()
    terms = vae.elbo(x, generator=generator(7))
    mu, log_var = vae.encode(x)
    sigma = (0.5 * log_var).exp()
    z = mu + sigma * torch.randn(6, 3, generator=generator(7))
    binary_cross_entropy = nn.functional.binary_cross_entropy_with_logits(vae.decode(z), x, reduction="none")
    torch.testing.assert_close(terms.log_likelihood, -binary_cross_entropy.sum(-1))
    torch.testing.assert_close(terms.kl, kl_divergence(Normal(mu, sigma), Normal(0.0, 1.0)).sum(-1))
    torch.testing.assert_close(terms.elbo, terms.log_likelihood - terms.kl)


def test_the_gaussian_likelihood_is_a_density_with_its_normalising_constant():
    vae, x = VAE(16, (8,), 3, likelihood="gaussian", sigma=0.1, seed=1), pixels()
    decoded = vae.decode(torch.zeros(6, 3))
    oracle = Normal(decoded, 0.1).log_prob(x).sum(-1)
    torch.testing.assert_close(vae.log_likelihood(x, decoded), oracle)


def test_learned_sigma_is_one_number_whose_optimum_is_the_root_mean_square_error():
    vae = VAE(16, (), 2, likelihood="gaussian", sigma="learned")
    assert vae.log_sigma.shape == () and vae.log_sigma.requires_grad
    x, decoded = pixels(500), torch.full((500, 16), 0.3)
    with torch.no_grad():
        vae.log_sigma.copy_((x - decoded).square().mean().sqrt().log())
    (gradient,) = torch.autograd.grad(vae.log_likelihood(x, decoded).mean(), vae.log_sigma)
    # Sixteen pixels, each with a derivative of order one, in float32.
    assert abs(gradient.item()) < 1e-4
    assert "log_sigma" not in dict(VAE(16, (), 2, likelihood="gaussian", sigma=0.5).named_parameters())


def test_beta_scales_the_kl_in_the_objective_alone():
    vae, x = VAE(16, (8,), 3), pixels()
    plain, scaled = (vae.elbo(x, beta=beta, generator=generator(1)) for beta in (1.0, 4.0))
    assert torch.equal(plain.kl, scaled.kl) and torch.equal(plain.elbo, scaled.elbo)
    torch.testing.assert_close(scaled.objective, scaled.log_likelihood - 4 * scaled.kl)
    log_likelihood, kl = scaled
    assert torch.equal(log_likelihood, scaled.log_likelihood) and torch.equal(kl, scaled.kl)


def test_more_samples_leave_the_mean_of_the_estimate_and_shrink_its_variance():
    vae, x = VAE(16, (8,), 3, seed=2), pixels(1)
    one = torch.stack([vae.elbo(x, n_samples=1, generator=generator(s)).elbo for s in range(400)]).squeeze()
    ten = torch.stack([vae.elbo(x, n_samples=10, generator=generator(1000 + s)).elbo for s in range(400)]).squeeze()
    error = (one.var() / 400 + ten.var() / 400).sqrt()
    assert abs(one.mean() - ten.mean()) < 4 * error
    # The ratio of two sample variances with 399 degrees of freedom each lies within 30% of its value 10.
    assert 7 < one.var() / ten.var() < 13


def test_gradients_reach_every_parameter():
    vae = VAE(16, (8,), 3)
    vae.elbo(pixels(), generator=generator()).elbo.mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in vae.parameters())


def test_images_of_every_accepted_shape_give_the_same_posterior():
    vae, x = VAE(16, (8,), 3), pixels()
    flat = vae.encode(x)
    for images in (x.view(6, 4, 4), x.view(6, 1, 4, 4), x.double(), x.numpy()):
        torch.testing.assert_close(vae.encode(images).mu, flat.mu)


def test_one_image_works_and_no_image_gives_no_values():  # FAULTS 19, 20
    vae = VAE(16, (8,), 3)
    assert vae.elbo(pixels(1)).elbo.shape == (1,)
    empty = vae.elbo(pixels(0))
    assert empty.log_likelihood.shape == empty.kl.shape == (0,)
    assert vae.iwae_bound(pixels(0), 3).shape == (0,)


@pytest.mark.parametrize("shape", [(16,), (6, 15), (6, 3, 4, 4), (6, 4, 5), (6, 1, 16, 1, 1)])
def test_other_shapes_are_refused_with_both_shapes_named(shape):  # FAULTS 18
    with pytest.raises(ValueError, match=r"\(N, 16\)") as caught:
        VAE(16, (8,), 3).encode(torch.zeros(shape))
    assert str(tuple(shape)) in str(caught.value)


@pytest.mark.parametrize(
    ("x", "remedy"),
    [
        (torch.full((2, 16), 200, dtype=torch.uint8), "divide by 255"),
        (np.full((2, 16), 200, dtype=np.uint8), "divide by 255"),
        (torch.full((2, 16), 200.0), "divide by 255"),
        (torch.full((2, 16), -0.5), r"\(x \+ 1\) / 2"),
        (torch.full((2, 16), math.nan), r"\(0, 0\)"),
    ],
)
def test_pixels_that_a_bernoulli_model_can_t_take_are_refused_with_the_remedy(x, remedy):  # FAULTS 16, 17
    for call in (VAE(16, (8,), 3).encode, VAE(16, (8,), 3).elbo):
        with pytest.raises(ValueError, match=remedy):
            call(x)


def test_a_gaussian_model_takes_any_finite_pixels():
    vae = VAE(16, (8,), 3, likelihood="gaussian")
    assert vae.elbo(torch.full((2, 16), -3.0)).elbo.shape == (2,)
    with pytest.raises(ValueError, match=r"\(1, 4\)"):
        vae.elbo(torch.zeros(2, 16).index_put((torch.tensor(1), torch.tensor(4)), torch.tensor(math.inf)))


def test_images_on_another_device_are_refused_with_the_call_that_helps():  # FAULTS 26
    # The meta device stands for an accelerator where there is none.
    with pytest.raises(ValueError, match=r"images are on meta and the model on cpu: call x.to\('cpu'\)"):
        VAE(16, (8,), 3).encode(torch.zeros(2, 16, device="meta"))


@pytest.mark.parametrize("latent_dim", [0, -1, 2.5, True, "2"])
def test_a_latent_dim_that_is_no_positive_whole_number_is_refused(latent_dim):  # FAULTS 21
    with pytest.raises(ValueError, match="latent_dim must be a whole number of at least 1"):
        VAE(16, (8,), latent_dim)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": "poisson"}, "choose 'bernoulli' or 'gaussian'"),
        ({"likelihood": "gaussian", "sigma": 0.0}, "sigma must be a positive number"),
        ({"likelihood": "gaussian", "sigma": "free"}, "or 'learned'"),
        ({"activation": "swish"}, "choose one of relu, tanh, leaky_relu"),
        ({"hidden_dims": (8, 0)}, "a layer size"),
    ],
)
def test_unknown_settings_are_refused_with_the_choices(options, message):
    with pytest.raises(ValueError, match=message):
        VAE(**{"data_dim": 16, "hidden_dims": (8,), "latent_dim": 3} | options)


def test_the_decoder_reverses_the_encoder_and_the_seed_decides_the_weights():
    vae = VAE(16, (8, 5), 3, seed=4)
    assert [layer.out_features for layer in vae.decoder if isinstance(layer, nn.Linear)] == [5, 8, 16]
    same, other = VAE(16, (8, 5), 3, seed=4), VAE(16, (8, 5), 3, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(vae.parameters(), same.parameters(), strict=True))
    assert not torch.equal(vae.encoder[0].weight, other.encoder[0].weight)


def test_building_and_sampling_leave_the_global_random_state_alone():
    before = torch.random.get_rng_state()
    VAE(16, (8,), 3, seed=1).sample(2, generator())
    assert torch.equal(before, torch.random.get_rng_state())


def test_own_networks_are_used_and_their_wrong_sizes_named():
    encoder = nn.Sequential(nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(32, 6))
    decoder = nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 1, 3, padding=1))
    vae = VAE(16, (), 3, encoder=encoder, decoder=decoder)
    assert vae.elbo(pixels(), n_samples=2).elbo.shape == (6,)
    with pytest.raises(ValueError, match="2 latent_dim"):
        VAE(16, (), 3, encoder=nn.Linear(16, 5)).encode(pixels())
    with pytest.raises(ValueError, match="not data_dim = 16"):
        VAE(16, (), 3, decoder=nn.Linear(3, 15)).sample(2)


def test_samples_are_mean_images_of_codes_from_the_prior():
    vae = VAE(16, (8,), 3)
    z = torch.randn(5, 3, generator=generator(9))
    torch.testing.assert_close(vae.sample(5, generator(9)), Bernoulli(logits=vae.decode(z)).mean)
    with pytest.raises(ValueError, match="n must be"):
        vae.sample(0)
    with pytest.raises(ValueError, match="latent_dim = 3"):
        vae.decode(torch.zeros(5, 4))


def test_start_at_mean_makes_a_fresh_decoder_average_to_the_mean_image_and_never_touches_a_trained_one():
    x = pixels(1000)
    vae = VAE(16, (), 3)
    with torch.no_grad():
        vae.decoder[0].weight.zero_()
    vae.start_at_mean(x)
    torch.testing.assert_close(vae.sample(1)[0], x.mean(0))
    vae.start_at_mean(torch.zeros(3, 16))
    torch.testing.assert_close(vae.sample(1)[0], x.mean(0))


def test_extreme_images_and_log_variances_keep_elbo_and_gradients_finite():  # FAULTS 22
    vae = VAE(16, (), 3)
    with torch.no_grad():
        vae.encoder[0].bias[3:] = 1e4
    elbo = vae.elbo(pixels(), generator=generator()).elbo
    assert torch.isfinite(elbo).all()
    elbo.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in vae.parameters())


def test_every_method_checks_its_images_unless_it_is_told_not_to():
    vae, wrong = VAE(6, (5,), 3), 255 * pixels(dim=6)
    for call in (
        *(vae.elbo, vae.encode, vae.reconstruct, vae, vae.check),
        *(lambda x: vae.iwae_bound(x, 2), lambda x: vae.log_weights(x, 2)),
    ):
        with pytest.raises(ValueError, match="divide by 255"):
            call(wrong)
    noise = generator(0), generator(0)
    assert vae.elbo(wrong, check=False, generator=noise[0]).log_likelihood.abs().max() > 255
    assert vae.iwae_bound(wrong, 2, check=False).shape == vae.log_weights(wrong, 2, check=False).shape[1:]


@pytest.mark.parametrize("n", [0, -1, 1.0, True, "2"])
def test_a_number_of_samples_below_one_is_refused(n):
    vae = VAE(6, (5,), 3)
    for call in (
        lambda: vae.elbo(pixels(dim=6), n_samples=n),
        lambda: vae.iwae_bound(pixels(dim=6), n),
        lambda: vae.log_weights(pixels(dim=6), n),
    ):
        with pytest.raises(ValueError, match=f"n_samples must be a whole number of at least 1, not {n!r}"):
            call()
    with pytest.raises(ValueError, match=f"n must be a whole number of at least 1, not {n!r}"):
        vae.sample(n)


def test_what_is_for_looking_has_no_gradient_and_what_is_for_training_has_one():
    vae = VAE(6, (5,), 3)
    for image in (vae.sample(2), vae.reconstruct(pixels(dim=6)), vae(pixels(dim=6))):
        assert not image.requires_grad
    for value in (
        vae.elbo(pixels(dim=6)).elbo,
        vae.iwae_bound(pixels(dim=6), 2),
        vae.encode(pixels(dim=6)).mu,
        vae.decode(torch.zeros(3)),
    ):
        assert value.requires_grad


def test_one_sample_adds_no_dimension_and_weights_always_have_theirs():
    vae = VAE(6, (5,), 3)
    assert vae.elbo(pixels(dim=6), n_samples=1).log_likelihood.shape == (6,)
    assert vae.log_weights(pixels(dim=6), 1).shape == (1, 6)


def test_a_model_says_its_shape_as_a_number_or_as_a_shape():
    assert VAE(6, (5,), 3).data_dim == 6 and VAE(6, (5,), 3).data_shape == (6,)
    assert VAE((1, 2, 3), (5,), 3).data_dim == VAE([1, 2, 3], (5,), 3).data_shape == (1, 2, 3)


def test_a_condition_is_refused_by_every_method_of_a_vae():
    vae = VAE(6, (5,), 3)
    with pytest.raises(TypeError, match="a VAE takes no condition y"):
        vae.decode(torch.zeros(2, 3), torch.zeros(2, 1))
