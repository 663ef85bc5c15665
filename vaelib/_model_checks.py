"""What is looked at in a model before it is trained or measured: methods that nothing calls, networks that can't be."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vaelib import _parts as parts
from vaelib._notices import warn
from vaelib.networks import BOUNDED, evaluating, final_layer

_OURS = "vaelib."
# What stands behind a public method of ours, and is what the bound or the loss works with.
_INNER = {"encode": ("_posterior", "_encoded"), "decode": ("_decoded",)}
_CODES, _FAR = 64, 1000.0


def check_model(model: nn.Module, own_bound: bool = False) -> None:
    """Refuse a model whose own methods its bound never reaches, and look at what its networks return.

    Args:
        model: what is to be trained or measured.
        own_bound: whether the model's own bound is to be trained, and no objective of the reader's.

    Raises:
        TypeError: for a method that the model's bound does not call.
        ValueError: for a decoder that the likelihood refuses.
    """
    _check_methods(type(model))
    if own_bound and "beta" in vars(model) and _is_ours(type(model), "elbo"):
        warn(
            "the model has a beta of its own, which elbo does not read: pass "
            "objective=lambda model, x, y, step, generator: model.elbo(x, y, beta=model.beta, generator=generator)"
        )
    likelihood: Any = getattr(model, "likelihood", None)
    decoder: Any = getattr(model, "decoder", None)
    if isinstance(decoder, nn.Module) and likelihood is not None:
        parts.check_decoder(decoder, likelihood)
        if getattr(likelihood, "name", None) == "bernoulli":
            _warn_of_no_logits(model, decoder)
    for name in ("encoder", "prior_network"):
        last = final_layer(network) if isinstance(network := getattr(model, name, None), nn.Module) else None
        if isinstance(last, BOUNDED) and hasattr(model, "elbo"):
            warn(
                f"the {name} ends in {type(last).__name__}, and what it returns are means and logarithms of variances, "
                "which are any real numbers: leave that layer out"
            )


def _check_methods(kind: type) -> None:
    """Refuse a method of the reader's that stands in the place of one of ours and that our bound does not call."""
    bound = "elbo" if hasattr(kind, "elbo") else "loss"
    for name, inner in _INNER.items():
        behind = any(_is_ours(kind, each) for each in inner)
        if behind and not _is_ours(kind, name) and _is_ours(kind, bound):
            raise TypeError(
                f"{kind.__name__}.{name} is your own, and {bound}, which is not, does not call it: training and what "
                f"is drawn would be those of two models. Give the network as {name}r=..., or write {bound}, too"
            )


def _is_ours(kind: type, name: str) -> bool:
    """Whether a class has a method as vaelib wrote it."""
    owner = next((each for each in kind.__mro__ if name in vars(each)), None)
    return owner is not None and owner.__module__.startswith(_OURS)


@torch.no_grad()
def _warn_of_no_logits(model: Any, decoder: nn.Module) -> None:
    """Warn where codes far out get numbers that a sigmoid, a tanh, a ReLU or the like returned, and no logits.

    Far from the origin a network that gives logits gives large ones of both signs.
    """
    like = next(decoder.parameters(), None)
    width = getattr(model, "latent_dim", 0) + getattr(model, "condition_dim", 0)
    if like is None or like.is_meta or nn.parameter.is_lazy(like) or not width or not hasattr(model, "data_shape"):
        return
    codes = _FAR * torch.randn(_CODES, width, generator=torch.Generator().manual_seed(0))
    with evaluating(model), global_noise(like.device):
        try:
            decoded = parts.run_decoder(decoder, codes.to(like), model.data_shape)
        except (RuntimeError, ValueError, TypeError):
            return  # it says so itself, or takes other codes
    if looks_bounded(decoded):
        low, high = (bound.item() for bound in torch.aminmax(decoded))
        model._decoder_unseen = False
        warn(
            f"wherever the codes lie, the decoder returns {low:.2g} to {high:.2g}: a Bernoulli likelihood takes "
            "logits, which are any real numbers. Leave out the function that confines them (sigmoid, tanh, relu or "
            "such); model.mean gives the pixels"
        )


@contextmanager
def global_noise(device: torch.device, seed: int = 0) -> Iterator[None]:
    """Seed PyTorch's global generators for code that draws from no other, and put them back."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def looks_bounded(decoded: Tensor) -> bool:
    """Whether numbers decoded far from the origin have been through a function with a limit on one side or on both."""
    if not decoded.isfinite().all():
        return False
    low, high = (bound.item() for bound in torch.aminmax(decoded))
    small, large = sorted((abs(low), abs(high)))
    one_sided = small <= 2 and large >= 20
    saturated = abs(large - 1) < 1e-3
    return one_sided or saturated
