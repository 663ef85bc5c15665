"""The conditional VAE: its bound against models whose conditional evidence is exact, and what it refuses."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from vaelib import data
from vaelib.cvae import CVAE
from vaelib.exact import LinearGaussian
from vaelib.training import fit
from vaelib.vae import VAE

DATA_DIM, CLASSES, LATENT = 5, 3, 2


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(n: int = 6, dim: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, dim, generator=generator(seed))


def exact_cvae(prior: str, blur: float = 1.0) -> tuple[CVAE, Sequence[LinearGaussian]]:
    """A CVAE of three classes whose networks are linear, and for each class the exact model that it is.

    ``x = W z + u_y + b + sigma eps``; with a conditional prior ``z = m_y + s z'``. The columns of W are orthogonal, so
    that the exact posterior is diagonal, as q is; its standard deviation is multiplied by `blur`.
    """
    sigma, spread = 0.6, torch.tensor([1.5, 0.7] if prior == "conditional" else [1.0, 1.0], dtype=torch.float64)
    weight = torch.linalg.qr(torch.randn(DATA_DIM, LATENT, generator=generator(3), dtype=torch.float64)).Q
    weight = weight * torch.tensor([2.0, 0.5], dtype=torch.float64)
    shift = torch.randn(DATA_DIM, CLASSES, generator=generator(4), dtype=torch.float64)
    bias = torch.randn(DATA_DIM, generator=generator(5), dtype=torch.float64)
    centre = torch.randn(LATENT, CLASSES, generator=generator(6), dtype=torch.float64) * (prior == "conditional")
    models = [
        LinearGaussian(weight * spread, weight @ centre[:, y] + shift[:, y] + bias, sigma) for y in range(CLASSES)
    ]
    _, covariance = models[0].posterior(bias.unsqueeze(0))
    to_mean = spread.diag() @ covariance @ (weight * spread).T / sigma**2
    decoder = nn.Linear(LATENT + CLASSES, DATA_DIM)
    encoder = nn.Linear(DATA_DIM + CLASSES, 2 * LATENT)
    prior_network = nn.Linear(CLASSES, 2 * LATENT)
    with torch.no_grad():
        decoder.weight.copy_(torch.cat([weight, shift], 1))
        decoder.bias.copy_(bias)
        from_y = centre - to_mean @ (weight @ centre + shift)
        zeros = torch.zeros(LATENT, DATA_DIM + CLASSES)
        encoder.weight.copy_(torch.cat([torch.cat([to_mean, from_y], 1), zeros]))
        log_var = (spread.square() * covariance.diagonal()).log() + 2 * math.log(blur)
        encoder.bias.copy_(torch.cat([-to_mean @ bias, log_var]))
        prior_network.weight.copy_(torch.cat([centre, torch.zeros(LATENT, CLASSES)]))
        prior_network.bias.copy_(torch.cat([torch.zeros(LATENT), spread.square().log()]))
    cvae = CVAE(
        DATA_DIM,
        CLASSES,
        (),
        LATENT,
        prior=prior,
        likelihood="gaussian",
        sigma=sigma,
        encoder=encoder,
        decoder=decoder,
        prior_network=prior_network if prior == "conditional" else None,
    )
    return cvae.double(), models


def draw(models: Sequence[LinearGaussian], n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw n examples of each class: x, y and the exact log p(x|y), in mixed order."""
    parts = [model.sample(n, generator(7 + y)) for y, model in enumerate(models)]
    evidence = torch.cat([model.log_evidence(part) for model, part in zip(models, parts, strict=True)])
    order = torch.randperm(n * len(models), generator=generator(1))
    y = torch.arange(len(models)).repeat_interleave(n)
    return torch.cat(parts)[order], y[order], evidence[order]


@pytest.mark.parametrize("prior", ["standard", "conditional"])
def test_every_importance_weight_is_the_conditional_evidence_when_q_is_the_exact_posterior(prior):
    cvae, models = exact_cvae(prior)
    x, y, evidence = draw(models, 30)
    # log_sigma is stored in float32, and float32 copies of the weights were made double: hence 1e-5.
    log_weights = cvae.log_weights(x, y, 4, generator(2))
    torch.testing.assert_close(log_weights, evidence.expand(4, -1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(cvae.iwae_bound(x, y, 9, generator(2)), evidence, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prior", ["standard", "conditional"])
def test_log_p_of_x_given_y_is_the_elbo_plus_the_kl_to_the_exact_posterior(prior):
    blur = 1.4
    cvae, models = exact_cvae(prior, blur)
    x, y, evidence = draw(models, 400)
    # The exact posterior has the same mean and a standard deviation 1/blur times q's, in both dimensions.
    gap = LATENT * 0.5 * (blur**2 - 1 - 2 * math.log(blur))
    elbo = cvae.elbo(x, y, n_samples=200, generator=generator(2)).elbo
    error = (evidence - elbo).std() / math.sqrt(len(x))
    assert (evidence - elbo).mean().item() == pytest.approx(gap, abs=4 * error.item())


@pytest.mark.parametrize("prior", ["standard", "conditional"])
def test_elbo_never_exceeds_conditional_evidence_and_iwae_lies_between(prior):
    cvae, models = exact_cvae(prior, blur=2.5)
    x, y, evidence = draw(models, 700)
    bounds = [cvae.elbo(x, y, generator=generator(3)).elbo] + [
        cvae.iwae_bound(x, y, samples, generator(3)) for samples in (5, 50, 500)
    ]
    means = [bound.mean().item() for bound in (*bounds, evidence)]
    # The steps are 1.0, 0.2, 0.02 and 0.002 nats, and common random images leave an error of 0.001 in the last.
    assert means == sorted(means) and means[-1] - means[0] > 0.5


@pytest.mark.parametrize("prior", ["standard", "conditional"])
def test_weights_from_the_prior_average_to_the_conditional_evidence(prior):
    cvae, models = exact_cvae(prior)
    x, y, evidence = draw(models, 10)
    log_weights = cvae.log_weights(x, y, 20_000, generator(3), proposal="prior")
    ratio = (log_weights - evidence).exp()
    error = ratio.std(0) / math.sqrt(len(ratio))
    assert ((ratio.mean(0) - 1).abs() < 4.5 * error).all()


def test_elbo_terms_are_those_of_torch_distributions_at_the_same_noise():
    cvae = CVAE(16, 3, (8,), 4, prior="conditional", seed=1)
    x, y = pixels(), torch.tensor([0, 1, 2, 2, 1, 0])
    q, p = cvae.encode(x, y), cvae.prior(y)
    terms = cvae.elbo(x, y, generator=generator(7))
    z = q.mu + torch.exp(0.5 * q.log_var) * torch.randn(q.mu.shape, generator=generator(7))
    likelihood = Bernoulli(logits=cvae.decode(z, y), validate_args=False).log_prob(x).sum(-1)
    kl = kl_divergence(Normal(q.mu, torch.exp(0.5 * q.log_var)), Normal(p.mu, torch.exp(0.5 * p.log_var))).sum(-1)
    # float32 sums of 16 pixels and 4 dimensions
    torch.testing.assert_close(terms.log_likelihood, likelihood, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(terms.kl, kl, rtol=1e-5, atol=1e-5)
    assert terms.beta == 1.0 and cvae.elbo(x, y, beta=3.0).beta == 3.0


@pytest.mark.parametrize("prior", ["standard", "conditional"])
def test_encoder_decoder_and_conditional_prior_all_look_at_the_condition(prior):
    cvae = CVAE(16, 3, (8,), 4, prior=prior)
    x, y, other, z = pixels(), torch.zeros(6, dtype=torch.long), torch.ones(6, dtype=torch.long), torch.zeros(6, 4)
    assert not torch.allclose(cvae.encode(x, y).mu, cvae.encode(x, other).mu, atol=1e-3)
    assert not torch.allclose(cvae.decode(z, y), cvae.decode(z, other), atol=1e-3)
    same = torch.equal(cvae.prior(y).mu, cvae.prior(other).mu)
    assert same == (prior == "standard")


def test_each_example_gets_its_own_condition_and_no_other():
    cvae = CVAE(16, 3, (8,), 4, prior="conditional")
    x, y, z = pixels(), torch.tensor([0, 1, 2, 2, 1, 0]), torch.randn(5, 6, 4, generator=generator(8))
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    # Float32 products of differently shaped batches differ in the last digits.
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(cvae.encode(x, y).mu[order], cvae.encode(x[order], y[order]).mu, **close)
    torch.testing.assert_close(cvae.decode(z, y)[:, order], cvae.decode(z[:, order], y[order]), **close)
    one = torch.cat([cvae.elbo(x[i : i + 1], y[i : i + 1], generator=generator(0)).kl for i in range(6)])
    torch.testing.assert_close(cvae.elbo(x, y).kl, one, **close)
    mu, log_var = cvae.prior(y)
    drawn = mu + torch.exp(0.5 * log_var) * torch.randn(6, 4, generator=generator(1))
    torch.testing.assert_close(cvae.sample(y, generator(1)), torch.sigmoid(cvae.decode(drawn, y)), **close)


def test_class_indices_are_one_hot_vectors():
    cvae = CVAE(16, 3, (8,), 4)
    y = torch.tensor([2, 0, 1])
    vectors = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert torch.equal(cvae.check_condition(y), vectors)
    assert torch.equal(cvae.sample(y, generator()), cvae.sample(vectors, generator()))
    assert torch.equal(cvae.sample(y.to(torch.uint8), generator()), cvae.sample(y.numpy(), generator()))


def test_training_puts_the_class_into_the_samples():
    digits = data.load("digits")
    cvae = CVAE(64, 10, (64,), 4)
    fit(cvae, digits, epochs=40, progress=False)
    y = torch.arange(10).repeat_interleave(40)
    samples = cvae.sample(y, generator(1))
    means = torch.stack([digits.images[digits.labels == k].flatten(1).mean(0) for k in range(10)])
    nearest = torch.cdist(samples, means).argmin(1)
    # Chance is 0.1, and the nearest class mean is right for 0.9 of the digits themselves.
    assert (nearest == y).float().mean() > 0.7


def test_fit_takes_vectors_as_conditions_for_training_and_validation():
    x, y = pixels(60), pixels(60, 3, seed=1)
    cvae = CVAE(16, 3, (8,), 2, prior="conditional")
    history = fit(cvae, x, y=y, validation=(x[:20], y[:20]), epochs=3, progress=False)
    assert len(history.validation_elbo) == 3
    with pytest.raises(ValueError, match="20 images need 20 conditions y, not 60"):
        fit(cvae, x, y=y, validation=(x[:20], y), epochs=1, progress=False)


def test_conditions_are_checked_once_and_before_training(monkeypatch):  # FAULTS 25
    cvae = CVAE(16, 3, (8,), 2)
    before = [weight.clone() for weight in cvae.parameters()]
    y = torch.tensor([0, 1, 2, 1, 10, 0])
    with pytest.raises(ValueError, match=r"the class at index 4 is 10: .* classes run from 0 to 2"):
        fit(cvae, pixels(), y=y, epochs=1, progress=False)
    assert all(map(torch.equal, before, cvae.parameters()))
    calls = []
    check = CVAE.check_condition
    monkeypatch.setattr(CVAE, "check_condition", lambda self, y: calls.append(1) or check(self, y))
    fit(cvae, pixels(), y=y.clamp(max=2), epochs=3, batch_size=2, progress=False)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, -1, 2]), "the class at index 1 is -1: with condition_dim = 3 classes run from 0 to 2"),
        (torch.tensor([0, 1, 10]), "the class at index 2 is 10"),
        (torch.tensor([0.0, 1.0, 2.0]), r"class indices are torch\.float32: convert them with y\.long\(\)"),
        (torch.tensor([True, False, True]), "class indices are torch.bool"),
        (torch.tensor([0, 1]), "there are 3 images and 2 conditions"),
        (torch.zeros(3, 4), r"conditions have shape \(3, 4\): .* \(batch, condition_dim\) = \(batch, 3\)"),
        (torch.tensor(1), r"conditions are a single number, 1: give them in a list, as \[1\]"),
        (torch.zeros(3, 3).index_fill(0, torch.tensor([2]), math.nan), r"condition \(2, 0\) is nan"),
    ],
)
def test_conditions_that_can_t_be_right_are_named(y, message):  # FAULTS 25
    cvae = CVAE(16, 3, (8,), 4, prior="conditional")
    for call in (cvae.encode, cvae.elbo, lambda x, y: cvae.iwae_bound(x, y, 2), cvae.reconstruct):
        with pytest.raises(ValueError, match=message):
            call(pixels(3), y)
    if "images" not in message:
        for call in (cvae.prior, cvae.sample):
            with pytest.raises(ValueError, match=message):
                call(y)


def test_codes_and_conditions_must_agree_in_number_and_codes_in_width():
    cvae = CVAE(16, 3, (8,), 4)
    assert cvae.decode(torch.zeros(7, 2, 4), torch.tensor([0, 1])).shape == (7, 2, 16)
    for z in (torch.zeros(7, 4), torch.zeros(2, 7, 4), torch.zeros(4)):
        with pytest.raises(ValueError, match="there are 2 conditions: each code needs its own"):
            cvae.decode(z, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="its last dimension must be latent_dim = 4"):
        cvae.decode(torch.zeros(2, 3), torch.tensor([0, 1]))


def test_conditions_on_another_device_are_refused_with_the_call_that_helps():  # FAULTS 26
    cvae = CVAE(16, 3, (8,), 4)
    with pytest.raises(ValueError, match=r"conditions are on meta and the model on cpu: call y\.to\('cpu'\)"):
        cvae.prior(torch.zeros(2, 3, device="meta"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition_dim": 0}, "condition_dim must be a whole number of at least 1, not 0"),
        ({"latent_dim": 2.5}, "latent_dim must be a whole number"),  # FAULTS 21
        ({"prior": "learned"}, "choose 'standard' or 'conditional'"),
        ({"prior_network": nn.Linear(3, 8)}, "a prior_network needs prior='conditional'"),
        ({"likelihood": "poisson"}, "choose 'bernoulli' or 'gaussian'"),
        ({"sigma": 0}, "sigma must be a positive number"),
    ],
)
def test_settings_that_can_t_be_right_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CVAE(**{"data_dim": 16, "condition_dim": 3, "hidden_dims": (8,), "latent_dim": 4} | options)


def test_one_image_works_and_no_image_gives_no_values():  # FAULTS 19, 20
    cvae = CVAE(16, 3, (8,), 4, prior="conditional")
    for n in (0, 1):
        x, y = pixels(n), torch.zeros(n, dtype=torch.long)
        assert cvae.elbo(x, y).elbo.shape == cvae.iwae_bound(x, y, 3).shape == (n,)
        assert cvae.sample(y).shape == cvae.reconstruct(x, y).shape == (n, 16)


def test_with_one_class_and_the_same_weights_a_cvae_is_a_vae():
    cvae, vae = CVAE(16, 1, (), 4), VAE(16, (), 4)
    with torch.no_grad():
        vae.encoder[0].weight.copy_(cvae.encoder[0].weight[:, :16])
        vae.encoder[0].bias.copy_(cvae.encoder[0].bias + cvae.encoder[0].weight[:, 16])
        vae.decoder[0].weight.copy_(cvae.decoder[0].weight[:, :4])
        vae.decoder[0].bias.copy_(cvae.decoder[0].bias + cvae.decoder[0].weight[:, 4])
    x, y = pixels(), torch.zeros(6, dtype=torch.long)
    torch.testing.assert_close(cvae.elbo(x, y, generator=generator()).elbo, vae.elbo(x, generator=generator()).elbo)
    torch.testing.assert_close(cvae.iwae_bound(x, y, 5, generator()), vae.iwae_bound(x, 5, generator()))


def test_gradients_reach_every_parameter():
    cvae = CVAE(16, 3, (8,), 4, prior="conditional", likelihood="gaussian", sigma="learned")
    cvae.elbo(pixels(), torch.tensor([0, 1, 2, 2, 1, 0])).objective.mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in cvae.parameters())


def test_extreme_log_variances_keep_elbo_and_gradients_finite():  # FAULTS 22
    cvae = CVAE(16, 3, (), 4, prior="conditional")
    for sign in (1, -1):
        with torch.no_grad():
            cvae.encoder[0].bias[4:] = sign * 1e4
            cvae.prior_network[0].bias[4:] = -sign * 1e4
        cvae.zero_grad()
        bound = cvae.elbo(pixels(), torch.tensor([0, 1, 2, 2, 1, 0])).elbo
        bound.mean().backward()
        assert torch.isfinite(bound).all()
        assert all(torch.isfinite(parameter.grad).all() for parameter in cvae.parameters())


def test_every_method_checks_images_and_conditions_unless_it_is_told_not_to():
    cvae, x, y = CVAE(6, 3, (5,), 2), torch.rand(4, 6), torch.tensor([0, 1, 2, 0])
    for call in (
        *(cvae.elbo, cvae.encode, cvae.reconstruct, cvae),
        *(lambda x, y: cvae.iwae_bound(x, y, 2), lambda x, y: cvae.log_weights(x, y, 2)),
    ):
        with pytest.raises(ValueError, match="divide by 255"):
            call((255 * x).round(), y)
        with pytest.raises(ValueError, match="classes run from 0 to 2"):
            call(x, y + 1)
        with pytest.raises(ValueError, match="there are 4 images and 3 conditions: each image needs its own"):
            call(x, y[:3])
    rows = cvae.check_condition(y)
    assert cvae.iwae_bound(255 * x, rows, 2, check=False).shape == (4,)
    assert cvae.log_weights(255 * x, rows, 3, check=False).shape == (3, 4)


def test_training_starts_a_fresh_cvae_at_the_mean_image():
    x, y = torch.rand(40, 6, generator=generator(0)), torch.arange(40) % 3
    cvae = CVAE(6, 3, (5,), 2)
    fit(cvae, x, y=y, epochs=1, learning_rate=1e-9, progress=False, device="cpu")
    torch.testing.assert_close(cvae.mean(cvae.decoder[-1].bias.detach()), x.mean(0), rtol=0, atol=1e-5)


def test_looking_at_a_cvae_needs_no_gradient():
    cvae, y = CVAE(6, 3, (5,), 2, prior="conditional"), torch.tensor([0, 1])
    assert not cvae.sample(y).requires_grad and not cvae.reconstruct(torch.rand(2, 6), y).requires_grad
    assert cvae.prior(y).mu.requires_grad


def test_conditions_may_be_lists_and_arrays():
    cvae = CVAE(6, 3, (5,), 2)
    expected = cvae.check_condition(torch.tensor([0, 2]))
    for y in ([0, 2], np.array([0, 2]), np.array([0, 2], dtype="uint8"), np.eye(3)[[0, 2]]):
        assert torch.equal(cvae.check_condition(y), expected)


def test_a_column_of_other_than_classes_is_not_told_to_take_its_first():
    with pytest.raises(ValueError, match=r"or class indices \(batch,\)$"):
        CVAE(6, 3, (5,), 2).check_condition(torch.rand(4, 1))
    with pytest.raises(ValueError, match=r"or class indices \(batch,\)$"):
        CVAE(6, 3, (5,), 2).check_condition(torch.ones(4, 2, dtype=torch.int64))


def test_codes_and_conditions_go_together_over_leading_dimensions_too():
    cvae, y = CVAE(6, 3, (5,), 2), torch.tensor([0, 1])
    z = torch.randn(4, 2, 2, generator=generator(0))
    # Another number of rows, other sums.
    torch.testing.assert_close(cvae.decode(z, y)[3, 1], cvae.decode(z[3], y)[1])
    for codes in (torch.randn(2), torch.randn(2, 4, 2)):
        with pytest.raises(ValueError, match="each code needs its own"):
            cvae.decode(codes, y)
