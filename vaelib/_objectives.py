"""What `fit` maximises: a model's own bound, minus its loss, or a function of the reader's."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from vaelib.contract import ElboTerms, Objective, what_is_missing

NAMES = ("objective", "log_likelihood", "kl")


def objective_of(model: nn.Module) -> Objective:
    """Return the model's own bound, or minus its loss, as a function of one signature.

    Raises:
        TypeError: for a model that has neither.
    """
    missing = what_is_missing(model)
    if missing:
        raise TypeError(missing)
    own = getattr(model, "elbo", None) or getattr(model, "loss", None)
    takes_generator, options = _options(own)
    if callable(getattr(model, "elbo", None)):

        def bound(model: Any, x: Tensor, y: Tensor | None, step: int, generator: torch.Generator) -> Any:
            noise = {"generator": generator} if takes_generator else {}
            return model.elbo(*((x,) if y is None else (x, y)), **noise, **options)

        return bound

    def minus_loss(model: Any, x: Tensor, y: Tensor | None, step: int, generator: torch.Generator) -> Tensor:
        noise = {"generator": generator} if takes_generator else {}
        return -model.loss(*((x,) if y is None else (x, y)), **noise, **options)

    return minus_loss


def batch_means(found: Tensor | ElboTerms, x: Tensor) -> Tensor:
    """Return the means over a batch of what is maximised and, where they are known, of both terms of the ELBO.

    Shapes:
        ``(1,)`` or ``(3,)``, in the order of `NAMES`.

    Raises:
        ValueError: for a tensor that has not one value per example.
        TypeError: for what is neither a tensor nor ElboTerms.
    """
    if isinstance(found, ElboTerms):
        log_likelihood, kl = found.log_likelihood.mean(), found.kl.mean()
        return torch.stack([log_likelihood - found.beta * kl, log_likelihood, kl])
    if not isinstance(found, Tensor):
        raise TypeError(f"the objective returned a {type(found).__name__}, not ElboTerms or a tensor (batch,)")
    if found.shape != x.shape[:1]:
        raise ValueError(
            f"the objective returned shape {tuple(found.shape)}, not one value per example {tuple(x.shape[:1])}"
        )
    return found.mean().unsqueeze(0)


def _options(method: Any) -> tuple[bool, dict[str, Any]]:
    """Return whether a method takes a generator, and what else to pass: the data were checked before the first step."""
    parameters = inspect.signature(method).parameters.values()
    names = {parameter.name for parameter in parameters}
    anything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    return anything or "generator" in names, {"check": False} if anything or "check" in names else {}
