"""What `fit` maximises: a model's own bound, minus its loss, or a function of the reader's."""

import inspect
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from vaelib.contract import ElboTerms, Objective, untouched, what_is_missing

_BOUNDS = ("loss", "elbo")
NAMES = ("objective", "log_likelihood", "kl")


def objective_of(model: nn.Module, check: bool = False) -> Objective:
    """Return the model's own bound, or minus its loss, as a function of one signature.

    Args:
        model: with ``elbo`` or ``loss``.
        check: whether the model shall check its images again.

    Raises:
        TypeError: for a model that has neither.
    """
    missing = what_is_missing(model)
    if missing:
        raise TypeError(missing)
    if callable(getattr(model, "elbo", None)):
        _check_that_no_loss_is_meant(type(model))
        bound, sign = "elbo", 1
    else:
        bound, sign = "loss", -1
    names, anything = _parameters(getattr(model, bound))
    options = {"check": check} if anything or "check" in names else {}
    takes_noise = anything or "generator" in names

    def maximised(model: Any, x: Tensor, y: Tensor | None, step: int, generator: torch.Generator) -> Any:
        if y is not None and not (anything or "y" in names):
            raise TypeError(f"{type(model).__name__}.{bound} has no parameter y, and y was given")
        given = ({} if y is None else {"y": y}) | ({"generator": generator} if takes_noise else {}) | options
        found = getattr(model, bound)(x, **given)
        if sign == -1 and not isinstance(found, Tensor):
            raise TypeError(f"loss(x) returned a {type(found).__name__}, not a tensor (batch,): the loss of each image")
        return found if sign == 1 else -found

    return that_writes_nothing(maximised)


def check_function(name: str, function: Any, takes: str) -> None:
    """Refuse what can't be called as `fit` will call it.

    Raises:
        TypeError: for what is no function, or takes other arguments.
    """
    if function is None:
        return
    if not callable(function):
        raise TypeError(f"{name} must be a function of ({takes}), not a {type(function).__name__}")
    with suppress(ValueError):  # some of C's don't tell what they take
        try:
            inspect.signature(function).bind(*takes.split(", "))
        except TypeError:
            raise TypeError(f"{name} must take ({takes}), and takes {inspect.signature(function)}") from None


def that_writes_nothing(objective: Objective) -> Objective:
    """Return an objective that refuses to write into the images that it is given: they are the data of others too."""

    def refusing(model: Any, x: Tensor, y: Tensor | None, step: int, generator: torch.Generator) -> Tensor | ElboTerms:
        with untouched(x, "the objective"):
            return objective(model, x, y, step, generator)

    return refusing


def _check_that_no_loss_is_meant(kind: type) -> None:
    """Refuse a class that has its parent's elbo and a loss of its own: which of them is to be used?

    Raises:
        TypeError: for such a class.
    """
    order = {name: next((i for i, each in enumerate(kind.__mro__) if name in vars(each)), None) for name in _BOUNDS}
    if None not in order.values() and order["loss"] < order["elbo"]:  # type: ignore[operator]
        raise TypeError(
            f"{kind.__name__} has a loss of its own and the elbo of {kind.__mro__[order['elbo']].__name__}, which fit "  # type: ignore[index]
            "would take: pass objective=lambda model, x, y, step, generator: -model.loss(x), or write elbo, too"
        )


def batch_means(found: Tensor | ElboTerms, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean over a batch of what is maximised and, without gradients, all means that are to be remembered.

    Shapes:
        ``()``; ``(1,)`` or, where both terms of the ELBO are known, ``(3,)``, in the order of `NAMES`.

    Raises:
        ValueError: for a tensor that has not one value per example, or that no gradient can be taken of.
        TypeError: for what is neither a tensor nor ElboTerms.
    """
    objective, means = _means(found, x)
    if torch.is_grad_enabled() and not objective.requires_grad:
        raise ValueError(
            "the objective has no gradient: nothing in it was computed with gradients from the parameters. model(x), "
            "reconstruct and sample are for looking, without gradients: use elbo, or encode and decode; and look for "
            "detach() and torch.no_grad()"
        )
    return objective, means


def _means(found: Tensor | ElboTerms, x: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(found, ElboTerms):
        per_example(found.log_likelihood, x, "log_likelihood")
        per_example(found.kl, x, "kl")
        log_likelihood, kl = found.log_likelihood.mean(), found.kl.mean()
        beta = found.beta
        weighted = (beta * found.kl).mean() if isinstance(beta, Tensor) and beta.ndim else beta * kl
        objective = log_likelihood - weighted
        return objective, torch.stack([objective.detach(), log_likelihood.detach(), kl.detach()])
    if not isinstance(found, Tensor):
        raise TypeError(f"the objective returned a {type(found).__name__}, not ElboTerms or a tensor (batch,)")
    objective = per_example(found, x, "the objective").mean()
    return objective, objective.detach().unsqueeze(0)


def per_example(found: Tensor, x: Tensor, name: str) -> Tensor:
    """Return `found` after checking that it has one value for each image of a batch.

    Raises:
        ValueError: where it has not: a sum over pixels or latent dimensions is missing, or a mean was taken too early.
    """
    if found.shape != x.shape[:1]:
        raise ValueError(
            f"{name} has shape {tuple(found.shape)}, not one value per example {tuple(x.shape[:1])}: sum over pixels "
            "and latent dimensions, and leave the mean over the batch to fit"
        )
    return found


def about_a_negative_kl(mean: float, n: int) -> str | None:
    """Return what is to be said of a mean KL of n examples where it is more negative than any estimate of it can be."""
    if not mean < -0.1 - 3 / n**0.5:  # not so where it is NaN either, which is said elsewhere
        return None
    return (
        f"the mean KL is {mean:.3g} nats, and no KL divergence is negative: ElboTerms takes the KL as it is, positive, "
        "and subtracts it"
    )


def _parameters(method: Any) -> tuple[set[str], bool]:
    """Return the names of a method's parameters, and whether it takes any others by name."""
    parameters = inspect.signature(method).parameters.values()
    anything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    return {parameter.name for parameter in parameters}, anything
