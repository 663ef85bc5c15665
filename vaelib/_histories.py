"""What training left behind: images unlike those of training, or the same; a gap between both; curves that break."""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from vaelib._case import Case, Finding, found
from vaelib._run import History


def preprocessing(here: Tensor, there: Tensor) -> Finding:
    """Are the images like those of training: not inverted, turned, or on another scale?"""
    grey, grey_there = (((each > each.min()) & (each < each.max())).float().mean().item() for each in (here, there))
    apart = _apart(here, there)
    text = (
        f"the mean image and that of training are {apart:.3f} apart, as a share of the variance of images; "
        f"{grey:.0%} of the pixels are grey, and {grey_there:.0%} in training"
    )
    # Chance alone gives 1/n for each set, seldom three times that.
    if apart < 0.02 + 4 * (1 / len(here) + 1 / len(there)) and (grey == 0) == (grey_there == 0):
        return found("images of training", text)
    undone = {name: _apart(x, there) for name, x in _turned(here).items()}
    name = min(undone, key=undone.__getitem__)
    like = f", as if {name} ({undone[name]:.3f} where that is undone)" if undone[name] < 0.25 * apart else ""
    return found("pixels", text, f"other images or other preprocessing than in training{like}")


def _apart(here: Tensor, there: Tensor) -> float:
    """Return the squared distance of two mean images, in units of the variance of the images."""
    variance = 0.5 * (here.var(0).sum() + there.var(0).sum()) + 1e-12
    return ((here.mean(0) - there.mean(0)).square().sum() / variance).item()


def _turned(x: Tensor) -> dict[str, Tensor]:
    """Return images inverted, and turned where they have rows and columns; rows of pixels may make a square."""
    side = math.isqrt(x[0].numel())
    square = x.reshape(len(x), side, side) if x.ndim == 2 and side**2 == x.shape[1] else x
    turned = {"inverted": 1 - square}
    if square.ndim > 2:
        turned |= {"upside down": square.flip(-2), "mirrored": square.flip(-1)}
    if square.ndim > 2 and square.shape[-1] == square.shape[-2]:
        turned["transposed"] = square.transpose(-1, -2)
    return {name: each.reshape(x.shape) for name, each in turned.items()}


def overlap(here: Tensor, there: Tensor) -> Finding:
    """Are there images in both?"""
    known = {row.tobytes() for row in there.flatten(1).float().cpu().numpy()}
    twice = sum(row.tobytes() in known for row in here.flatten(1).float().cpu().numpy())
    copies = 1 - len(known) / len(there)
    text = f"{twice} of {len(here)} images are among the {len(there)} of training, of which {copies:.1%} are copies"
    # Small images repeat by themselves, here as there; what is more than that, and a hundredth, is no accident.
    return found("overlap", text, "this is no test" if twice / len(here) > 0.01 + 2 * copies else None)


def overfitting(case: Case, train: Case) -> Finding:
    """Is the model as good on these images as on those of training?"""
    lead, gap = case.elbo - case.without_code.mean().item(), train.elbo - case.elbo
    error = math.hypot(case.error, train.error)
    text = (
        f"the ELBO is {train.elbo:.2f} nats on images of training, {gap:.2f} +- {error:.2f} more than on these, where "
        f"it is {lead:.2f} above the log likelihood of the mean image"
    )
    # Four tenths of what the model has learned there, its lead on the mean image, are not true of new images.
    much = gap > max(case.notable, 4 * error, 0.4 * (lead + gap))
    return found("overfitting", text, "much of what it learned is not true of new images" if much else None)


class Curves(NamedTuple):
    """The ELBO of each epoch, on images of training and, where there are such, on held-out ones.

    ``in_one_number`` says that `fit` was given a bound in one number, or another objective that is none.
    """

    train: list[float]
    held_out: list[float]
    in_one_number: bool = False


def curves_of(history: Any) -> Curves:
    """Return the curves of what `fit` returned, or of numbers.

    Raises:
        TypeError: for what are no numbers.
        ValueError: for no finished epoch, or rows of more than two.
    """
    if isinstance(history, History):
        curves = Curves(history.elbo or history.train.get("objective", []), history.validation_elbo, not history.elbo)
    else:
        try:
            rows = np.array([[float(each) for each in np.atleast_1d(row)] for row in history])
            rows = rows.reshape(len(rows) or 1, -1)
        except (TypeError, ValueError, RuntimeError):  # the last is of a tensor that has a gradient
            raise TypeError(
                f"history is a {type(history).__name__}: give what fit returned, or a list with the ELBO of each epoch "
                "as a number (loss.item()), or as a pair, that of training and that of held-out images"
            ) from None
        if rows.shape[1] > 2:
            raise ValueError(f"history has {rows.shape[1]} numbers an epoch: give pairs, list(zip(train, held_out))")
        curves = Curves(rows[:, :1].flatten().tolist(), rows[:, 1:].flatten().tolist())
    if not curves.train:
        raise ValueError("the history holds no finished epoch")
    return curves


def breaks(case: Case, curves: Curves) -> Finding | None:
    """Is there an epoch after which training was not where it had been?"""
    train, held_out, _ = curves
    if bad := sum(not math.isfinite(each) for each in (*train, *held_out)):
        return found("history", f"{bad} numbers of the history are none", "NaN or infinite: training ran off")
    changes = [after - before for before, after in pairwise(train)]
    for at in range(3, len(changes)):
        usual = max(map(abs, changes[at - 3 : at]))
        # The usual change up and down is noise, and what began before is no break, as while the KL is annealed.
        if changes[at] < -case.notable - 3 * usual:
            before, after = train[at : at + 2]
            text = (
                f"after epoch {at + 1} the ELBO falls from {before:.2f} to {after:.2f} nats, and changed by {usual:.2f}"
            )
            return found("history", text, "training did not go on from where it was (a resumed run?), or ran off")
    return None


def end(case: Case, curves: Curves, measured: float | None) -> Finding:
    """Does the end of the history, or its best epoch, agree with what the model does?

    Args:
        case: the model, on images that training did not see.
        curves: of training.
        measured: the ELBO of the images of training, or None where it is unknown.
    """
    train, held_out, in_one_number = curves
    last = train[-1]
    if in_one_number and not case.in_one_number:
        return found("history", f"training ended at an objective of {last:.2f}, of which it is unknown what it is")
    best = held_out.index(max(held_out)) if held_out else len(train) - 1
    text = f"training ended at an ELBO of {last:.2f} nats"
    if measured is not None:
        text += f", and the model has {measured:.2f} on images of training"
    if held_out:
        text += f"; on held-out ones {held_out[-1]:.2f}, and at best {held_out[best]:.2f}, after epoch {best + 1}"
    # The mean over an epoch lags behind its end by about the last changes; dropout makes it another number.
    lag = max((abs(after - before) for before, after in pairwise(train[-4:])), default=abs(last))
    near, drops_out = case.notable / 3 + 2 * lag, any(isinstance(each, _DropoutNd) for each in case.model.modules())
    if measured is not None and not drops_out and min(abs(last - measured), abs(train[best] - measured)) > near:
        if abs(-last - measured) < near:
            return found("history", text, "its numbers have the other sign, they are a loss")
        # A total that was divided by one batch too few, of four to five hundred, is larger by that ratio.
        ratio = last / measured
        sums = f", or, at {ratio:.3f} times that, a sum of {ratio / (ratio - 1):.0f} batches divided by one less"
        other = "another model, or other images, than it tells of"
        return found("history", text, other + (sums if 1.002 < ratio < 1.34 else ""))
    if held_out and held_out[best] - max(held_out[-1], case.elbo) > case.notable:
        return found("overfitting", text, "these weights are those of the end, and not the best")
    return found("history", text)
