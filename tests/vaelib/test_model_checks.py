"""What is looked at in a model before it is trained or measured: right, refused by name, or warned about."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaelib import data, evaluation
from vaelib._model_checks import looks_bounded
from vaelib.autoencoder import Autoencoder
from vaelib.cvae import CVAE
from vaelib.likelihoods import DiscretisedLogistic
from vaelib.training import fit
from vaelib.vae import VAE


def images(n: int = 100, dim: int = 16) -> Tensor:
    return torch.rand(n, dim, generator=torch.Generator().manual_seed(0))


def train(model: nn.Module, x: Tensor | None = None, **options):
    return fit(model, images() if x is None else x, **{"epochs": 2, "device": "cpu", "progress": False} | options)


class Then(nn.Module):
    """A decoder that ends in a function, which no list of layers shows."""

    def __init__(self, function) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 16))
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        return self.function(self.layers(z))


BOUNDED = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softmax": lambda x: x.softmax(-1),
    "relu": F.relu,
    "softplus": F.softplus,
    "gelu": F.gelu,
    "silu": F.silu,
    "elu": F.elu,
    "selu": F.selu,
    "log_softmax": lambda x: x.log_softmax(-1),
    "logsigmoid": F.logsigmoid,
    "minus relu": lambda x: -F.relu(x),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_a_decoder_that_gives_no_logits_is_warned_about_at_each_door_however_it_is_written(name):
    def model() -> VAE:
        return VAE(16, (8,), 2, decoder=Then(BOUNDED[name]))

    with pytest.warns(UserWarning, match="Leave out the function that confines them"):
        train(model())
    with pytest.warns(UserWarning, match="Leave out the function that confines them"):
        evaluation.mean_elbo(model(), images())
    with pytest.warns(UserWarning, match="Leave out the function that confines them"):
        evaluation.log_evidence(model(), images(4), 3)
    looked_at = model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        looked_at.decode(torch.zeros(1, 2))
    with pytest.warns(UserWarning, match="Leave out the function that confines them"):
        train(looked_at)


@pytest.mark.parametrize("change", ["append", "replace", "last"])
def test_a_decoder_that_is_changed_after_the_model_was_made_is_looked_at_again(change):
    vae = VAE(16, (8,), 2)
    if change == "append":
        vae.decoder.append(nn.Sigmoid())
    elif change == "replace":
        vae.decoder = nn.Sequential(nn.Linear(2, 16), nn.Tanh())
    else:
        vae.decoder[-1] = nn.Sequential(nn.Linear(8, 16), nn.Sigmoid())
    with pytest.raises(ValueError, match="a Bernoulli likelihood takes logits"):
        train(vae)


class ReluWrittenLast(nn.Module):
    """As many write it: the layers in one order, the calls in another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(2, 8), nn.Linear(8, 16), nn.ReLU()

    def forward(self, z: Tensor) -> Tensor:
        return self.second(self.relu(self.first(z)))


def honest() -> dict[str, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {
            "relu written last": ReluWrittenLast(),
            "tanh inside": nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 16)),
            "sigmoid inside": nn.Sequential(nn.Linear(2, 32), nn.Sigmoid(), nn.Linear(32, 16)),
            "wide logits": Then(lambda x: 6 * torch.tanh(x)),
            "batch norm": nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16)),
            "layer norm": nn.Sequential(nn.Linear(2, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 16)),
            "sines": nn.Sequential(nn.Linear(2, 32), Then(torch.sin).layers[1], nn.Linear(32, 16)),
            "linear": nn.Linear(2, 16),
            "small weights": nn.Sequential(nn.Linear(2, 32), nn.Tanh(), Small()),
        }


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(32, 16)

    def forward(self, h: Tensor) -> Tensor:
        return 0.02 * self.last(h)


@pytest.mark.parametrize("name", honest())
def test_a_decoder_that_gives_logits_is_not_warned_about_fresh_or_trained(name, recwarn):
    vae = VAE(16, (8,), 2, decoder=honest()[name])
    train(vae, epochs=4)
    evaluation.mean_elbo(vae, images())
    assert [str(each.message) for each in recwarn.list] == []


@pytest.mark.parametrize("activation", ["relu", "tanh", "leaky_relu"])
def test_a_model_of_the_library_s_own_networks_is_not_warned_about(activation, recwarn):
    train(VAE(16, (2,), 2, activation=activation))
    train(CVAE(16, 3, (8,), 2, activation=activation), y=torch.arange(100) % 3)
    assert [str(each.message) for each in recwarn.list] == []


@pytest.mark.parametrize(
    ("numbers", "bounded"),
    [
        *(([0.0, 1.0], True), ([-1.0, 1.0], True), ([0.0, 900.0], True), ([-900.0, 0.2], True)),
        *(([-0.1, 0.1], False), ([-1.6, 1.5], False), ([-900.0, 900.0], False), ([0.0, float("nan")], False)),
    ],
)
def test_numbers_look_bounded_where_one_side_or_both_have_a_limit(numbers, bounded):
    assert looks_bounded(torch.tensor(numbers)) is bounded


def test_an_encoder_that_ends_in_an_activation_is_warned_about():
    encoder = nn.Sequential(nn.Linear(16, 4), nn.ReLU())
    with pytest.warns(UserWarning, match="the encoder ends in ReLU, .* leave that layer out"):
        train(VAE(16, (8,), 2, encoder=encoder))


def test_code_that_writes_into_its_input_is_refused_at_each_door_and_changes_no_data():
    class Standardising(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x.sub_(0.3).div_(0.3))

    def dropped() -> nn.Module:
        return nn.Sequential(nn.Dropout(0.5, inplace=True), nn.Linear(16, 4))

    x = images()
    with pytest.raises(ValueError, match="the encoder writes into what it is given"):
        train(VAE(16, (8,), 2, likelihood="gaussian", encoder=Standardising()), x.clone())
    with pytest.raises(ValueError, match="layers with inplace=False"):
        train(VAE(16, (8,), 2, likelihood="gaussian", encoder=dropped()), x.clone())
    with pytest.raises(ValueError, match="the encoder writes into what it is given"):
        evaluation.mean_elbo(VAE(16, (8,), 2, likelihood="gaussian", encoder=Standardising()), x.clone())
    decoder = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(2, 16))
    with pytest.raises(ValueError, match="the decoder writes into what it is given"):
        train(VAE(16, (8,), 2, decoder=decoder), x.clone())

    def noisy(model, x, y, step, generator):
        x += 0.1
        return model.elbo(x, generator=generator, check=False)

    with pytest.raises(ValueError, match="the objective writes into what it is given"):
        train(VAE(16, (8,), 2, likelihood="gaussian"), x.clone(), objective=noisy)


def test_layers_that_work_in_place_on_their_own_numbers_are_fine(recwarn):
    encoder = nn.Sequential(nn.Linear(16, 8), nn.ReLU(inplace=True), nn.Linear(8, 4))
    train(VAE(16, (8,), 2, encoder=encoder))
    assert not recwarn.list


@pytest.mark.parametrize("parent", [VAE, Autoencoder])
@pytest.mark.parametrize("name", ["encode", "decode"])
def test_a_method_that_the_bound_never_calls_is_refused(parent, name):
    own = type("Mine", (parent,), {name: getattr(parent, name)})
    if parent is Autoencoder and name == "decode":  # its loss does call it
        train(own(16, (8,), 2))
        return
    with pytest.raises(TypeError, match=f"Mine.{name} is your own, and (elbo|loss), which is not, does not call it"):
        train(own(16, (8,), 2))


def test_a_beta_that_nothing_reads_is_said_with_the_objective_that_reads_it(recwarn):
    vae = VAE(16, (8,), 2)
    vae.beta = 50.0
    train(vae, objective=lambda model, x, y, step, g: model.elbo(x, y, beta=model.beta, generator=g))
    evaluation.mean_elbo(vae, images())
    assert not recwarn.list
    with pytest.warns(UserWarning, match="a beta of its own, which elbo does not read"):
        train(vae)


def test_own_methods_with_an_own_bound_are_taken():
    class Mine(VAE):
        def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
            return 0.5 * super().decode(z, y)

        def elbo(self, x: Tensor, y: Tensor | None = None, **options):
            return super().elbo(x, y, **options)

    train(Mine(16, (8,), 2))


def test_a_loss_beside_an_inherited_elbo_is_refused_with_the_line_that_helps():
    class Mine(VAE):
        def loss(self, x: Tensor) -> Tensor:
            terms = self.elbo(x)
            return 50 * terms.kl - terms.log_likelihood

    with pytest.raises(TypeError, match="Mine has a loss of its own and the elbo of LatentVariableModel"):
        train(Mine(16, (8,), 2))
    train(Mine(16, (8,), 2), objective=lambda model, x, y, step, generator: -model.loss(x))


def test_a_transform_gets_images_in_the_shape_in_which_they_are_given():
    shapes = []

    def mirrored(x: Tensor, generator: torch.Generator) -> Tensor:
        shapes.append(tuple(x.shape[1:]))
        return x.flip(-1)

    x = images().reshape(-1, 4, 4)
    by_transform, before = VAE(16, (8,), 2), VAE(16, (8,), 2)
    first = train(by_transform, x, transform=mirrored)
    second = train(before, x.flip(-1))
    assert set(shapes) == {(4, 4)}
    # The decoder starts at the mean of the images before the transform, so that only the second epoch on agrees.
    assert first.elbo[-1] == pytest.approx(second.elbo[-1], abs=0.5)
    train(VAE(16, (8,), 2), images(), transform=mirrored)
    assert shapes[-1] == (16,)


def test_noise_without_a_generator_is_the_same_at_every_measurement_and_leaves_the_global_state_alone():
    class NoGenerator(VAE):
        def elbo(self, x: Tensor, y: Tensor | None = None):  # type: ignore[override]
            return super().elbo(x)

    vae, x = NoGenerator(16, (8,), 2), images()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert evaluation.mean_elbo(vae, x) == evaluation.mean_elbo(vae, x)
    assert torch.equal(state, torch.get_rng_state())
    alone, watched = NoGenerator(16, (8,), 2), NoGenerator(16, (8,), 2)
    assert train(alone).elbo == train(watched, validation=images(30)).elbo


def test_a_likelihood_whose_sum_has_another_shape_is_refused():
    class Summed(DiscretisedLogistic):
        name = "mine"

        def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
            return -(x - decoded).square().flatten(1).sum(1)

        def check(self, x: Tensor) -> None:
            pass

    vae = VAE(16, (8,), 2, likelihood=Summed())
    with pytest.raises(ValueError, match=r"log_prob returned shape \(3,\) for \(3, 100, 16\) decoded"):
        vae.elbo(images(), n_samples=3)


def test_log_weights_of_another_shape_are_refused():
    class Turned(VAE):
        def log_weights(self, *given, **options):
            return super().log_weights(*given, **options).T

    with pytest.raises(ValueError, match=r"log_weights returned \(4, 3\), not \(n_samples, batch\) = \(3, 4\)"):
        evaluation.log_evidence(Turned(16, (8,), 2), images(4), 3)


def test_a_network_that_another_model_has_trained_is_warned_about_and_copies_and_frozen_ones_are_not(recwarn):
    encoder, decoder = nn.Linear(16, 4), nn.Linear(2, 16)
    fresh = copy.deepcopy(encoder)

    def make(encoder: nn.Module, decoder: nn.Module) -> VAE:
        return VAE(16, (), 2, encoder=encoder, decoder=decoder)

    first = make(encoder, decoder)
    train(first)
    train(first)
    train(make(fresh, nn.Linear(2, 16)))
    train(make(encoder.requires_grad_(False), nn.Linear(2, 16)))
    assert not recwarn.list
    with pytest.warns(UserWarning, match="decoder of this VAE went through training in another model"):
        train(make(nn.Linear(16, 4), decoder))


def test_a_hook_of_the_reader_s_is_part_of_a_run(tmp_path):
    path = tmp_path / "run.safetensors"
    train(VAE(16, (8,), 2), checkpoint=path)
    hooked = VAE(16, (8,), 2)
    hooked.decoder.register_forward_hook(lambda module, given, found: 5 * found)
    with pytest.raises(ValueError, match="another run"):
        train(hooked, checkpoint=path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": lambda x: x}, r"objective must take \(model, x, y, step, generator\)"),
        ({"objective": "elbo"}, "objective must be a function of"),
        ({"transform": lambda x: x}, r"transform must take \(x, generator\)"),
        ({"transform": 3}, "transform must be a function of"),
        ({"checkpoint": True}, "checkpoint must be the path of a file"),
    ],
)
def test_what_fit_could_not_call_is_refused_before_training(options, message):
    with pytest.raises(TypeError, match=message):
        train(VAE(16, (8,), 2), **options)


def test_a_loss_that_is_no_tensor_is_named():
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 16)

        def loss(self, x: Tensor) -> dict[str, Tensor]:
            return {"loss": (x - self.linear(x)).square().sum(1)}

    with pytest.raises(TypeError, match=r"loss\(x\) returned a dict, not a tensor \(batch,\)"):
        train(Mine())


def test_active_units_of_weights_that_are_no_numbers_are_refused():
    vae = VAE(16, (8,), 2)
    with torch.no_grad():
        vae.encoder[0].weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="a posterior mean is not finite"):
        evaluation.active_units(vae, images())
    for threshold in (float("nan"), -1.0):
        with pytest.raises(ValueError, match="threshold must be a variance"):
            evaluation.active_units(VAE(16, (8,), 2), images(), threshold=threshold)


def test_a_measurement_that_is_no_number_says_nothing_of_a_negative_kl(recwarn):
    vae = VAE(16, (8,), 2)
    with torch.no_grad():
        vae.decoder[-1].weight.fill_(float("nan"))
    assert evaluation.mean_elbo(vae, images()) != evaluation.mean_elbo(vae, images())
    assert not recwarn.list


def test_a_loss_that_stays_small_is_said_where_the_likelihood_is_a_probability():
    def mean_squares(model, x, y, step, generator):
        return (x - model.mean(model.decode(model.encode(x).mu))).square().mean(1)

    with pytest.warns(UserWarning, match="the objective is positive .* if it is a loss, return its negative"):
        train(VAE(16, (8,), 2), objective=mean_squares)


def test_the_levels_of_scikit_learn_s_digits_are_named():
    digits = data.load("digits").images
    with pytest.raises(ValueError, match=r"multiples of 1 / 16: DiscretisedLogistic\(levels=17\)"):
        DiscretisedLogistic().check(digits)
    DiscretisedLogistic(levels=17).check(digits)


def test_a_decoder_of_grey_images_may_leave_out_the_channel():
    decoder = nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (4, 4)))
    assert VAE((1, 4, 4), (8,), 2, decoder=decoder).sample(3).shape == (3, 1, 4, 4)
    with pytest.raises(ValueError, match="channels come first"):
        VAE((2, 2, 4), (8,), 2, decoder=decoder).sample(3)


def test_pixels_divided_twice_are_said_at_each_door():
    vae, x = VAE(16, (8,), 2), images()
    with pytest.warns(UserWarning, match="no pixel that transform returned is above .* multiply by 255"):
        train(VAE(16, (8,), 2), transform=lambda x, generator: x / 255)
    for measure in (
        lambda dark: evaluation.mean_elbo(vae, dark),
        lambda dark: evaluation.log_evidence(vae, dark, 2),
        lambda dark: evaluation.active_units(vae, dark),
    ):
        with pytest.warns(UserWarning, match="no pixel is above"):
            measure(x / 255)


@pytest.mark.parametrize(("factor", "said"), [(1.0, False), (0.5, False), (16.0, True), (1 / 16, True)])
def test_validation_on_another_scale_is_said(factor, said, recwarn):
    train(VAE(16, (8,), 2, likelihood="gaussian"), validation=images(30) * factor)
    assert any("bring both to the same scale" in str(each.message) for each in recwarn.list) is said


@pytest.mark.parametrize("method", ["check", "check_condition"])
def test_a_check_that_returns_nothing_is_named(method):
    own = type("Mine", (CVAE,), {method: lambda self, given: None})
    with pytest.raises(TypeError, match=f"Mine.{method} returned a NoneType: it must return what it checked"):
        train(own(16, 3, (8,), 2), y=torch.arange(100) % 3)
