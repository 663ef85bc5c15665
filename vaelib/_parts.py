"""What models are put together from: networks run and their outputs checked, images and conditions side by side."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vaelib._notices import warn
from vaelib._pixels import rows_as_tensor
from vaelib.contract import Likelihood, untouched
from vaelib.likelihoods import Bernoulli, DiscretisedLogistic, Gaussian
from vaelib.networks import NEUTRAL, check_positive_number, mlp


def named(likelihood: str | Likelihood, sigma: float | str = 1.0) -> Likelihood:
    """Return the likelihood of a name, or the one given.

    Args:
        likelihood: "bernoulli", "gaussian", "discretised_logistic" (of 256 levels), or an object with the methods of
            `Likelihood`.
        sigma: of the Gaussian by name; 1 elsewhere.

    Raises:
        ValueError: for an unknown name, a sigma that is not positive, or one for a likelihood that has none.
        TypeError: for an object that lacks a method, or a class in the place of an object of it.
    """
    if isinstance(likelihood, type):
        raise TypeError(f"{likelihood.__name__} is a class: give an object of it, {likelihood.__name__}()")
    if isinstance(likelihood, str) and likelihood == "gaussian":
        return Gaussian(sigma)
    if isinstance(likelihood, str) and likelihood not in ("bernoulli", "discretised_logistic"):
        raise ValueError(
            f"unknown likelihood {likelihood!r}: choose 'bernoulli' or 'gaussian', or give an object such as "
            "vaelib.likelihoods.DiscretisedLogistic(), whose name is 'discretised_logistic'"
        )
    if sigma != "learned":
        check_positive_number("sigma", sigma, " or 'learned'")
    if sigma != 1.0:
        raise ValueError(
            f"sigma={sigma!r} belongs to likelihood='gaussian'; this likelihood is "
            f"{likelihood if isinstance(likelihood, str) else type(likelihood).__name__}"
        )
    if isinstance(likelihood, str):
        return Bernoulli() if likelihood == "bernoulli" else DiscretisedLogistic()
    missing = [name for name in ("name", "log_prob", "mean", "sample", "check") if not hasattr(likelihood, name)]
    if missing:
        raise TypeError(f"{type(likelihood).__name__} is no likelihood: it lacks {', '.join(missing)}")
    return likelihood


def run_encoder(encoder: nn.Module, x: Tensor, latent_dim: int) -> tuple[Tensor, Tensor]:
    """Return mean and log variance, each ``(batch, K)``, that a network gives side by side.

    Raises:
        ValueError: where the network returns another width.
    """
    with untouched(x, "the encoder"):
        out = encoder(x)
    wanted = (len(x), 2 * latent_dim)
    if not isinstance(out, Tensor):
        raise ValueError(f"the encoder returns a {type(out).__name__}, not torch.cat([mu, log_var], 1)")
    if out.shape != wanted:
        raise ValueError(f"the encoder returns {tuple(out.shape)}, not (batch, 2 latent_dim) = {wanted}")
    mu, log_var = out.chunk(2, dim=1)
    return mu, log_var


def run_decoder(decoder: nn.Module, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return what a decoder makes of ``(..., width)``, as ``(..., *shape)``.

    Raises:
        ValueError: where the network returns another number of values for each image, or, with a shape (C, H, W), in
            another order.
    """
    # In the network's own type: noise and codes of another one are as good.
    given = rows.reshape(-1, rows.shape[-1]).to(next(decoder.parameters(), rows).dtype)
    with untouched(given, "the decoder"):
        out = decoder(given)
    if not isinstance(out, Tensor) or len(out) != len(given):
        what = f"{len(out)} images" if isinstance(out, Tensor) else f"a {type(out).__name__}"
        raise ValueError(f"the decoder returns {what} for {len(given)} codes, not a tensor with an image for each")
    found = tuple(out.shape[1:])
    if math.prod(found) != math.prod(shape):
        raise ValueError(f"the decoder returns {math.prod(found)} values per image, not data_dim = {_words(shape)}")
    if len(shape) > 1 and len(found) > 1 and found not in (shape, shape[1:]):
        raise ValueError(f"the decoder returns images of shape {found}, not {shape}: channels come first")
    return out.reshape(*rows.shape[:-1], *shape)


def join(x: Tensor, y: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """Return images with their condition side by side: ``(batch, D + C)``, or C more channels, constant over an image.

    Args:
        x: images in any shape of as many pixels as `shape`.
        y: conditions ``(batch, C)``, or None for x alone.
        shape: of one image as the encoder takes it, ``(D,)`` or ``(C, H, W)``.
    """
    x = x.reshape(len(x), *shape)
    if y is None:
        return x
    return torch.cat([x, y if len(shape) == 1 else y[:, :, None, None].expand(-1, -1, *shape[1:])], 1)


def beside(z: Tensor, y: Tensor) -> Tensor:
    """Return codes ``(..., batch, K)`` with their conditions ``(batch, C)`` side by side."""
    return torch.cat([z, y.expand(*z.shape[:-1], -1)], -1)


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """Return what a model was made from as a checkpoint can hold it; a likelihood of its own class as text."""
    return {key: _plain(value) for key, value in config.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    return value if isinstance(value, str) else _described(value)


def _described(value: Any) -> str:
    """Return a text that another process gives too: the class, and the fields that a repr would hide or print."""
    fields = value.extra_repr() if isinstance(value, nn.Module) else ""
    own = {
        key: each
        for key, each in getattr(value, "__dict__", {}).items()
        if isinstance(each, str | bool | numbers.Number)
    }
    own.pop("training", None)
    return f"{type(value).__qualname__}({fields or ', '.join(f'{key}={each!r}' for key, each in own.items())})"


def on_several(n_samples: int, mu: Tensor, log_var: Tensor, always: bool = False) -> tuple[Tensor, Tensor]:
    """Add a leading dimension of samples, for one sample alone only if `always`."""
    if n_samples == 1 and not always:
        return mu, log_var
    return mu.expand(n_samples, *mu.shape), log_var.expand(n_samples, *log_var.shape)


def check_log_prob(log_prob: Tensor, decoded: Tensor) -> Tensor:
    """Return what a likelihood's log_prob gave, after checking that it is one number for each decoded image.

    Raises:
        ValueError: where a sum over the pixels is missing, or one was taken over the images or samples too.
    """
    if log_prob.shape == decoded.shape[:-1]:
        return log_prob
    what = "a number per pixel" if log_prob.shape == decoded.shape else f"not {tuple(decoded.shape[:-1])}"
    raise ValueError(
        f"log_prob returned shape {tuple(log_prob.shape)} for {tuple(decoded.shape)} decoded, {what}: sum over the "
        "last dimension, and over that alone"
    )


def network(name: str, own: object, sizes: Sequence[int], activation: str, draw: torch.Generator) -> nn.Module:
    """Return the reader's own network, or a multilayer perceptron where there is none.

    Raises:
        TypeError: for a function or a class, whose weights would be neither trained nor saved.
    """
    if own is None:
        return mlp(sizes, activation, draw)
    if not isinstance(own, nn.Module):
        what = "a class: give an object of it" if isinstance(own, type) else f"a {type(own).__name__}"
        raise TypeError(f"{name} must be an nn.Module, whose weights are trained and saved, and is {what}")
    return own


def checked_codes(z: Tensor, latent_dim: int, like: Tensor) -> Tensor:
    """Return codes, also those of an array, as a tensor, after checking that they fit a model.

    Raises:
        ValueError: where their last dimension is not latent_dim, or they are on another device than `like`.
        TypeError: for what is no array of real numbers.
    """
    z = rows_as_tensor(z, "codes")
    if z.shape[-1:] != (latent_dim,):
        raise ValueError(f"z has shape {tuple(z.shape)}: its last dimension must be latent_dim = {latent_dim}")
    if z.device != like.device:
        raise ValueError(f"codes are on {z.device} and the model on {like.device}: call z.to({str(like.device)!r})")
    return z


def check_proposal(proposal: str) -> None:
    """Raise a ValueError unless codes can be proposed from there."""
    if proposal not in ("posterior", "prior"):
        raise ValueError(f"unknown proposal {proposal!r}: choose 'posterior' or 'prior'")


def check_decoder(decoder: nn.Module, likelihood: Likelihood) -> None:
    """Raise a ValueError for a decoder that the likelihood refuses."""
    check = getattr(likelihood, "check_decoder", None)
    if check is not None:
        check(decoder)


def warn_of_probabilities(decoded: Tensor, likelihood: Likelihood) -> None:
    """Warn where a decoder made for a Bernoulli likelihood returns nothing outside [0, 1], as probabilities would."""
    if likelihood.name != "bernoulli" or decoded.numel() == 0 or decoded.device.type == "meta":
        return
    low, high = (bound.item() for bound in torch.aminmax(decoded.detach()))
    if low >= 0 and high <= 1:
        warn(
            f"all outputs of the decoder lie in [0, 1] ({low:.2g} to {high:.2g}): a Bernoulli likelihood takes logits. "
            "If they are probabilities, leave out the function that makes them so; model.mean gives the pixels."
        )


@torch.no_grad()
def start_decoder_at(decoder: nn.Module, mean: Tensor, likelihood: Likelihood) -> None:
    """Set the output bias of a fresh decoder so that it decodes the mean image ``(D,)``; see ``start_at_mean``."""
    leaves = [module for module in decoder.modules() if not list(module.children())]
    last: Any = next((leaf for leaf in reversed(leaves) if not isinstance(leaf, NEUTRAL)), decoder)
    start = getattr(likelihood, "start", None)
    fresh = isinstance(last, nn.Linear) and last.bias is not None and last.bias.requires_grad and not last.bias.any()
    if start is not None and fresh and last.out_features == len(mean):
        last.bias.copy_(start(mean))


def _words(shape: tuple[int, ...]) -> str:
    return str(shape[0]) if len(shape) == 1 else f"{shape} = {math.prod(shape)}"
