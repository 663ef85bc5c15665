"""What training left behind: images that are also among those of training, a gap between both, curves that break."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from vaelib._case import Case, Finding, ill, well
from vaelib._run import History


def against_training(case: Case, train: Case) -> Finding:
    """Are the images of training like these, and is the model as good on these as there?"""
    for name, here, there in _compared_pixels(case.pixels, train.pixels):
        # Two halves of a data set differ by a few per cent.
        if not 0.6 <= (abs(here) + 1e-6) / (abs(there) + 1e-6) <= 1.7:
            return ill("pixels", f"{name} is {here:.3g} here, and {there:.3g} in training: other preprocessing")
    lead = case.elbo - case.without_code.mean().item()
    gap, error = train.elbo - case.elbo, math.hypot(case.error, train.error)
    how = (
        f"the ELBO is {train.elbo:.2f} nats on images of training, and {case.elbo:.2f} on these: {gap:.2f} +- "
        f"{error:.2f} more"
    )
    # Four tenths of what the model has learnt there, its lead on the mean image, are not true of new images.
    if gap > max(case.notable, 4 * error, 0.4 * (lead + gap)):
        return ill("overfitting", f"{how}; its lead on the mean image is {lead:.2f} here")
    return well("overfitting", how)


def _compared_pixels(here: Tensor, there: Tensor) -> list[tuple[str, float, float]]:
    """Return what is compared of the pixels: name, here, in training."""
    found = [("the mean pixel", here.mean().item(), there.mean().item())]
    found += [("the largest pixel", here.max().item(), there.max().item())]
    grey, grey_there = (((each > each.min()) & (each < each.max())).float().mean().item() for each in (here, there))
    return found + ([("the share of grey pixels", grey, grey_there)] if min(grey, grey_there) == 0 else [])


def overlap(x: Tensor, train: Tensor) -> Finding:
    """Are there images in both?"""
    known = {row.tobytes() for row in train.flatten(1).float().cpu().numpy()}
    twice = sum(row.tobytes() in known for row in x.flatten(1).float().cpu().numpy())
    copies = 1 - len(known) / len(train)
    how = (
        f"{twice} of {len(x)} images are also among the {len(train)} of training, of which {copies:.1%} are there twice"
    )
    # Small images repeat by themselves, here as there; what is more than that, and a hundredth, is no accident.
    if twice / len(x) > 0.01 + 2 * copies:
        return ill("overlap", f"{how}: what is measured on them is no test")
    return well("overlap", how)


class Curves(NamedTuple):
    """The ELBO of each epoch on images of training and, where there are such, on held-out ones."""

    train: list[float]
    validation: list[float]


def curves_of(history: Any) -> Curves:
    """Return the curves of a History, or of a sequence of numbers, or of pairs of them.

    Raises:
        ValueError: for no finished epoch.
    """
    if isinstance(history, History):
        train, validation = history.elbo or history.train.get("objective", []), history.validation_elbo
    else:
        pairs = [each if isinstance(each, tuple | list) else (each,) for each in history]
        train, validation = [float(each[0]) for each in pairs], [float(each[1]) for each in pairs if len(each) > 1]
    if not train:
        raise ValueError("the history holds no finished epoch")
    return Curves(train, validation)


def history(case: Case, curves: Curves, measured: Sequence[float]) -> Finding:
    """Does what training reported agree with what the model does, and does it go on where it stopped?

    Args:
        case: the model.
        curves: what training reported.
        measured: the ELBO of the images of training, by the model's own bound and by ours; none where they are unknown.
    """
    curve = [*curves.train, *curves.validation]
    if not all(map(math.isfinite, curve)):
        return ill("history", "an ELBO of the history is NaN or infinite: training ran off")
    found = _fall(case, curves.train) or (_end(case, curves, measured) if case.sound else None)
    return found or well("history", _told(curves, measured))


def _fall(case: Case, curve: list[float]) -> Finding | None:
    """Look for an epoch after which training was not where it had been."""
    change = _changes(curve)
    for at in range(3, len(change)):
        usual = max(map(abs, change[at - 3 : at]))
        # The usual change up and down is noise, and what began before is no break, as while the KL is annealed.
        if change[at] < -case.notable - 3 * usual:
            return ill(
                "history",
                f"the ELBO falls from {curve[at]:.2f} nats in epoch {at + 1} to {curve[at + 1]:.2f} in the next, where "
                f"it changed by {usual:.2f} at most: training did not go on from where it was (a resumed run?), or ran "
                "off",
            )
    return None


def _end(case: Case, curves: Curves, measured: Sequence[float]) -> Finding | None:
    """Compare the end of the history, and its best epoch, with what the model does on images of training."""
    last, held_out = curves.train[-1], curves.validation
    told, lag = _told(curves, measured), max(map(abs, _changes(curves.train)[-3:]), default=abs(last))
    # The mean over an epoch lags behind its end by about the last changes; with dropout it is another number.
    near = case.notable / 3 + 2 * lag
    mine = _nearest(measured, last)
    if measured and abs(last - mine) > near and not _drops_out(case.model):
        best = _best(held_out)
        if best is not None and abs(curves.train[best] - _nearest(measured, curves.train[best])) <= near:
            return well("history", f"{told}: the weights of epoch {best + 1}, where those images are no test any more")
        ratio = last / mine
        less = f": {ratio:.3f} times that, like a sum of {ratio / (ratio - 1):.0f} batches that is divided by one less"
        return ill(
            "history", told + (less if 1.002 < ratio < 1.34 else ": another model, or other images, than it tells of")
        )
    if held_out and max(held_out) - held_out[-1] > case.notable and case.elbo < max(held_out) - 0.5 * case.notable:
        return ill("overfitting", f"{told}: these weights are those of the end, and not the best")
    return None


def _changes(curve: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(curve)]


def _best(held_out: list[float]) -> int | None:
    return held_out.index(max(held_out)) if held_out else None


def _told(curves: Curves, measured: Sequence[float]) -> str:
    last, best = curves.train[-1], _best(curves.validation)
    told = f"training ended at an ELBO of {last:.2f} nats"
    told += f", and the model has {_nearest(measured, last):.2f} on these images of training" if measured else ""
    if best is None:
        return told
    held_out = curves.validation
    return (
        f"{told}; on held-out images it was {held_out[best]:.2f} at best, after epoch {best + 1}, and "
        f"{held_out[-1]:.2f} at last"
    )


def _nearest(measured: Sequence[float], wanted: float) -> float:
    return min(measured, key=lambda each: abs(each - wanted), default=math.nan)


def _drops_out(model: Any) -> bool:
    return any(isinstance(layer, _DropoutNd) and layer.p > 0 for layer in model.modules())
