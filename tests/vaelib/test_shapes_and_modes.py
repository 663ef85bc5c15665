"""Images that have channels, models with layers that know two modes, and what goes in where images are."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from vaelib import evaluation, latent
from vaelib.autoencoder import Autoencoder
from vaelib.cvae import CVAE
from vaelib.data import ImageData
from vaelib.training import fit
from vaelib.vae import VAE


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def colour(n: int = 6) -> torch.Tensor:
    return torch.rand(n, 3, 4, 5, generator=generator())


def convolutional(condition_dim: int = 0) -> dict[str, nn.Module]:
    return {
        "encoder": nn.Sequential(
            nn.Conv2d(3 + condition_dim, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)
        ),
        "decoder": nn.Sequential(
            nn.Linear(2 + condition_dim, 20), nn.Unflatten(1, (1, 4, 5)), nn.ReLU(), nn.Conv2d(1, 3, 3, padding=1)
        ),
    }


def models() -> dict[str, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {
            "perceptron": VAE((3, 4, 5), (8,), 2),
            "convolutional": VAE((3, 4, 5), (), 2, **convolutional()),
            "autoencoder": Autoencoder((3, 4, 5), (8,), 2),
        }


@pytest.mark.parametrize("name", ["perceptron", "convolutional", "autoencoder"])
def test_a_shape_goes_in_and_comes_out(name):
    model, x = models()[name], colour()
    assert model.reconstruct(x).shape == model(x).shape == x.shape
    assert torch.equal(model.reconstruct(x), model.reconstruct(x.flatten(1)))
    assert model.decode(torch.zeros(7, 6, 2)).shape == (7, 6, 3, 4, 5)
    if isinstance(model, VAE):
        assert model.sample(4, generator()).shape == (4, 3, 4, 5)
        assert model.elbo(x, n_samples=3).elbo.shape == model.iwae_bound(x, 3).shape == (6,)
        assert evaluation.log_evidence(model, x, 5).shape == (6,)
    assert fit(model, x, epochs=2, validation=x, progress=False, device="cpu").epochs == 2


def test_a_shape_changes_no_number():
    flat, shaped, x = VAE(60, (8,), 2), VAE((3, 4, 5), (8,), 2), colour()
    first, second = flat.elbo(x.flatten(1), generator=generator()), shaped.elbo(x, generator=generator())
    assert torch.equal(first.log_likelihood, second.log_likelihood) and torch.equal(first.kl, second.kl)
    assert flat.state_dict().keys() == shaped.state_dict().keys()


def test_a_convolutional_cvae_sees_its_condition_in_channels():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        cvae = CVAE((3, 4, 5), 2, (), 2, **convolutional(2))
    x, y = colour(), torch.tensor([0, 1, 0, 1, 0, 1])
    assert cvae.sample(y, generator()).shape == cvae(x, y).shape == x.shape
    assert not torch.equal(cvae.encode(x, y).mu, cvae.encode(x, 1 - y).mu)


@pytest.mark.parametrize("shape", [(3, 4, 5), 60])
def test_channels_last_are_refused_with_the_permute_that_helps(shape):
    x = colour().permute(0, 2, 3, 1)
    with pytest.raises(ValueError, match=r"channels come last in yours: call x.permute\(0, 3, 1, 2\)"):
        VAE(shape, (8,), 2).encode(x)
    assert VAE((3, 4, 5), (8,), 2).encode(x.permute(0, 3, 1, 2)).mu.shape == (6, 2)


def test_a_decoder_with_channels_last_is_refused():
    decoder = nn.Sequential(nn.Linear(2, 60), nn.Unflatten(1, (4, 5, 3)))
    with pytest.raises(ValueError, match=r"images of shape \(4, 5, 3\), not \(3, 4, 5\): channels come first"):
        VAE((3, 4, 5), (), 2, decoder=decoder).sample(1)


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5, 6), (3, 0, 5), (3, 4.5, 5), "abc", 2.5, None])
def test_what_is_no_shape_is_refused(shape):
    with pytest.raises(ValueError, match="data_dim"):
        VAE(shape, (), 2)


def test_numpy_numbers_are_numbers():  # FAULTS 67
    vae = VAE(np.int64(16), (np.int32(8),), np.int64(2), likelihood="gaussian", sigma=np.float32(0.5))
    x = torch.rand(40, 16, generator=generator())
    history = fit(
        vae, x, epochs=np.int64(2), batch_size=np.int32(8), learning_rate=np.float32(1e-3), seed=np.int64(3),
        progress=False,
    )  # fmt: skip
    assert history.epochs == 2 and type(vae.sample(np.int64(2), generator())) is torch.Tensor


class Noisy(nn.Module):
    """A decoder with Dropout and BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 16))

    def forward(self, z):
        return self.layers(z)


LOOKS = {
    "sample": lambda model, x: model.sample(5, generator()),
    "reconstruct": lambda model, x: model.reconstruct(x),
    "call": lambda model, x: model(x),
    "mean_elbo": evaluation.mean_elbo,
    "log_evidence": lambda model, x: evaluation.log_evidence(model, x, 3),
    "active_units": evaluation.active_units,
    "encode_dataset": lambda model, x: latent.encode_dataset(model, x).mu,
    "one image": lambda model, x: model(x[:1]),
}


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("mode", [True, False])
def test_looking_at_a_model_leaves_it_as_it_was_and_gives_the_same_twice(name, mode):  # FAULTS 64
    vae = VAE(16, (8,), 2, decoder=Noisy()).train(mode)
    vae.encoder[0].eval()
    x = torch.rand(20, 16, generator=generator())
    state, before = {key: value.clone() for key, value in vae.state_dict().items()}, torch.get_rng_state()
    first, second = LOOKS[name](vae, x), LOOKS[name](vae, x)
    assert torch.equal(torch.as_tensor(first), torch.as_tensor(second))
    assert all(torch.equal(value, state[key]) for key, value in vae.state_dict().items())
    assert vae.training == mode and vae.decoder.training == mode and not vae.encoder[0].training
    assert torch.equal(before, torch.get_rng_state())


def test_encode_decode_and_the_bounds_obey_the_mode_that_they_find():
    vae, z = VAE(16, (8,), 2, decoder=Noisy()), torch.randn(20, 2, generator=generator())
    assert not torch.equal(vae.decode(z), vae.decode(z))
    vae.eval()
    assert torch.equal(vae.decode(z), vae.decode(z))


def test_a_mode_comes_back_after_an_error():
    vae = VAE(16, (8,), 2, decoder=Noisy())
    with pytest.raises(ValueError, match="images have shape"):
        vae(torch.rand(3, 15))
    assert vae.training and vae.decoder.training


ACCEPTED = {
    "mean_elbo": evaluation.mean_elbo,
    "log_evidence": lambda model, x, y=None: evaluation.log_evidence(model, x, 3, y),
    "active_units": evaluation.active_units,
    "encode_dataset": lambda model, x, y=None: latent.encode_dataset(model, x, y).mu,
    "fit": lambda model, x, y=None: fit(model, x, y=y, epochs=1, device="cpu", progress=False).elbo,
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_images_in_every_form_are_accepted_at_every_door(name):  # FAULTS 67
    x, labels = torch.rand(20, 4, 4, generator=generator()), torch.arange(20) % 3
    forms = [x, x.flatten(1), x.unsqueeze(1), x.numpy(), x.numpy().astype(">f4"), ImageData("own", x, labels)]
    results = [torch.as_tensor(ACCEPTED[name](VAE(16, (8,), 2), form)).float() for form in forms]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0])
    cvae = torch.as_tensor(ACCEPTED[name](CVAE(16, 3, (8,), 2), forms[-1])).float()
    torch.testing.assert_close(cvae, torch.as_tensor(ACCEPTED[name](CVAE(16, 3, (8,), 2), x, labels)).float())


class DataFrame:
    """Stands for one of pandas, which the book does not need."""


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.parametrize(
    ("images", "remedy"),
    [
        (DataLoader(TensorDataset(torch.rand(4, 16))), r"torch.cat\(\[batch for batch, \*_ in loader\]\)"),
        (TensorDataset(torch.rand(4, 16)), r"torch.stack\(\[image for image, \*_ in dataset\]\)"),
        (DataFrame(), r"frame.to_numpy\(dtype='float32'\)"),
        ([torch.rand(16)] * 4, r"torch.stack\(images\)"),
        ([np.zeros(16)] * 4, r"numpy.stack\(images\)"),
        (
            [Image.new("L", (4, 4))] * 4,
            r"numpy.stack\(\[numpy.asarray\(each.convert\('L'\)\) for each in images\]\) / 255",
        ),
        ("my pictures", r"vaelib.data.from_folder\(path\)"),
        (Path("my pictures"), r"vaelib.data.from_folder\(path\)"),
        (np.array(["a", "b"]), "give a tensor, a NumPy array of numbers or ImageData"),
        (None, "give a tensor"),
    ],
)
def test_other_forms_are_refused_with_the_line_that_helps(name, images, remedy):  # FAULTS 67
    with pytest.raises(TypeError, match=remedy):
        ACCEPTED[name](VAE(16, (8,), 2), images)


def test_the_lines_that_help_help():
    vae, loader = VAE(16, (8,), 2), DataLoader(TensorDataset(torch.rand(4, 16)), batch_size=3)
    pictures = [Image.new("L", (4, 4), value) for value in (0, 100)] + [Image.new("1", (4, 4), 1)]
    for images in (
        torch.cat([batch for batch, *_ in loader]),
        torch.stack([image for image, *_ in loader.dataset]),
        torch.stack([torch.rand(16)] * 4),
        np.stack([np.zeros(16)] * 4),
        np.stack([np.asarray(each.convert("L")) for each in pictures]) / 255,
    ):
        assert evaluation.mean_elbo(vae, images) < 0


def test_a_y_given_to_a_plain_vae_is_refused_and_is_never_taken_for_beta():
    vae, x, y = VAE(16, (8,), 2), torch.rand(6, 16), torch.arange(6) % 3
    for call in (vae.elbo, vae, vae.encode, vae.reconstruct):
        with pytest.raises(TypeError, match="a VAE takes no condition y"):
            call(x, y)
    with pytest.raises(TypeError):
        vae.elbo(x, 4.0)
    with pytest.raises(TypeError):
        vae.elbo(x, None, 4.0)
    with pytest.raises(TypeError, match="takes no condition y"):
        evaluation.mean_elbo(vae, x, y)
    with pytest.raises(TypeError, match="needs a condition y"):
        CVAE(16, 3, (8,), 2).elbo(x)


class Doubling(nn.Module):
    """The wrong view: a batch of another size comes out."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, 2 * outputs)
        self.outputs = outputs

    def forward(self, x):
        return self.layer(x).view(-1, self.outputs)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mu, self.log_var = nn.Linear(16, 2), nn.Linear(16, 2)

    def forward(self, x):
        return self.mu(x), self.log_var(x)


class ForgotToSum:
    name = "forgot"

    def log_prob(self, x, decoded):
        return -(x - decoded).square()

    def mean(self, decoded):
        return decoded

    sample = mean

    def check(self, x):
        pass


def test_pasted_networks_that_would_train_the_wrong_thing_are_refused():
    x, network = torch.rand(6, 16), nn.Linear(16, 4)

    def functional(x):
        return network(x)

    for wrong, named in (
        (functional, "is a function"),
        (network.forward, "is a method"),
        (nn.Linear, "a class"),
    ):
        for build in (
            lambda wrong=wrong: VAE(16, (), 2, encoder=wrong),
            lambda wrong=wrong: Autoencoder(16, (), 2, encoder=wrong),
        ):
            with pytest.raises(TypeError, match=f"encoder must be an nn.Module.*{named}"):
                build()
    with pytest.raises(ValueError, match=r"the encoder returns \(12, 4\), not \(batch, 2 latent_dim\) = \(6, 4\)"):
        VAE(16, (), 2, encoder=Doubling(16, 4)).encode(x)
    with pytest.raises(ValueError, match="the decoder returns 12 images for 6 codes"):
        VAE(16, (), 2, decoder=Doubling(2, 16)).elbo(x)
    with pytest.raises(ValueError, match=r"the encoder returns a tuple, not torch.cat\(\[mu, log_var\], 1\)"):
        VAE(16, (), 2, encoder=TwoHeads()).encode(x)
    with pytest.raises(ValueError, match="a number per pixel"):
        VAE(16, (), 2, likelihood=ForgotToSum()).elbo(x)
    assert isinstance(VAE(4, (), 2, encoder=nn.Sequential()).encoder, nn.Sequential)
    assert len(VAE(4, (), 2, encoder=nn.Sequential()).encoder) == 0


def test_images_of_another_height_and_width_are_refused():
    with pytest.raises(ValueError, match=r"images have shape \(5, 16, 4\)"):
        VAE((1, 4, 16), (8,), 2).elbo(torch.rand(5, 16, 4))
    assert VAE((1, 4, 16), (8,), 2).elbo(torch.rand(5, 4, 16)).elbo.shape == (5,)


def test_conditions_of_another_number_are_refused_wherever_they_go():
    cvae, x, y = CVAE(16, 3, (8,), 2), torch.rand(2000, 16), torch.arange(4000) % 3
    with pytest.raises(ValueError, match="2000 images and 4000 conditions"):
        latent.encode_dataset(cvae, x, y)
    with pytest.raises(TypeError, match="a VAE takes no condition y"):
        fit(VAE(16, (8,), 2), x, y=y[:2000], epochs=1, progress=False)


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((2, 4, 6, 6), lambda x: x[:, :3]),
        ((2, 6, 6, 4), lambda x: x.permute(0, 3, 1, 2)[:, :3]),
        ((2, 6, 6), lambda x: x[:, None].expand(-1, 3, -1, -1)),
        ((2, 1, 6, 6), lambda x: x.expand(-1, 3, -1, -1)),
    ],
)
def test_images_of_other_channels_are_named_with_a_remedy_that_is_obeyed(shape, remedy):
    vae, x = VAE((3, 6, 6), (4,), 2), torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="opacity" if 4 in shape else "are grey: make the model with") as caught:
        vae.check(x)
    said = re.search(r"(?:opacity: |or call )(x.+?)(?= leaves|$)", str(caught.value))
    assert said is not None
    assert torch.equal(eval(said[1], {"x": x}), remedy(x))  # the words of the message, as a reader would paste them
    vae.check(remedy(x))


def test_colour_pictures_of_another_size_are_named_with_the_model_that_takes_them():
    x = torch.rand(2, 3, 8, 6)
    with pytest.raises(ValueError, match=r"have 8 x 6 pixels: make the model with data_dim=\(3, 8, 6\)"):
        VAE((3, 6, 6), (4,), 2).check(x)
    VAE((3, 8, 6), (4,), 2).check(x)
