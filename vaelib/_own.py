"""Pictures of a folder on the command line: which are for the test, and what is said of them before any training."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from vaelib._folder import read
from vaelib._identity import identity
from vaelib._idx import DataError
from vaelib._inputs import training_examples
from vaelib._notices import warn
from vaelib.data import ImageData

__all__ = ["note_others", "parts", "refuse_for_a_name"]

# As few pictures as there may be, and which of each ten is for the test.
_FEWEST, _TENTH = 10, 4


def refuse_for_a_name(options: argparse.Namespace) -> None:
    """Refuse options that say how a folder is read, where a data set is asked for by its name.

    Raises:
        ValueError: names the options.
    """
    trains = options.command == "train"
    given = {
        "--size": trains and options.size is not None,
        "--colour": trains and options.colour,
        "--skip-broken": options.skip_broken,
    }
    wrong = [name for name, is_given in given.items() if is_given]
    if wrong:
        raise ValueError(
            f"{' and '.join(wrong)}: for the pictures of a folder alone, and {options.data} is read as it is: leave "
            f"{'it' if len(wrong) == 1 else 'them'} out, or give --data the path of a folder (./{options.data})"
        )


def parts(
    options: argparse.Namespace, size: int, colour: bool, classes: bool | Sequence[str]
) -> tuple[ImageData, ImageData]:
    """Return the pictures of a folder to train and to test with: every tenth is for the test.

    Args:
        options: of the command line.
        size: side of the pictures.
        colour: whether they are read in colour.
        classes: whether the subfolders are the classes, or their names in order.

    Raises:
        DataError: for pictures that can't be read, in the words of the command line, or too few of them.
    """
    try:
        fields = read(options.data, size, colour, classes, "crop", "white", options.skip_broken)
    except DataError as error:
        raise type(error)(_as_options(str(error))) from error
    found = ImageData(**fields)
    if len(found) < _FEWEST:
        raise DataError(
            f"{options.data} holds {len(found)} picture{'s' * (len(found) != 1)}: give {_FEWEST} at least, of which "
            "every tenth is kept for the test, and hundreds for a model that learns what they have in common"
        )
    if options.likelihood == "discretised_logistic":  # pictures of 16 bits have more values
        found = replace(found, images=(found.images * 255).round() / 255)
    if colour and (found.images == found.images[:, :1]).all():
        warn(
            f"no picture of {options.data} has any colour: each number is there three times, so that bits per "
            "dimension are not those of grey pictures. A model that is trained without --colour has each once"
        )
    rows = torch.arange(len(found))
    train, test = found.subset(rows[rows % 10 != _TENTH]), found.subset(rows[rows % 10 == _TENTH])
    _note_copies(train, test, options.data)
    return train, test


def note_others(
    model: Any, train: ImageData, conditions: torch.Tensor | None, settings: dict[str, Any], names: tuple[str, str]
) -> None:
    """Warn where the pictures of a folder are not those that a model was trained on, of which the test is then no test.

    Args:
        model: that was trained.
        train: pictures of the folder that would be trained on.
        conditions: their classes, for a CVAE.
        settings: of the run, from the checkpoint; where nothing can be compared, nothing is said.
        names: of the model and of the folder.
    """
    then = settings.get("identity") or {}
    x, _ = training_examples(model, train, conditions)
    now = identity(model, data=x, validation=None)
    if not isinstance(then.get("data"), dict) or then.get("validation") != now["validation"]:
        return  # where some were set aside, which is not written down
    if then["data"] != now["data"]:
        warn(
            f"the pictures of {names[1]} are not those that {names[0]} was trained on (another folder, or some added, "
            "removed or renamed): every tenth of them is the test here, and some of these may have been trained on"
        )


def _note_copies(train: ImageData, test: ImageData, folder: str) -> None:
    """Warn of pictures for the test that are among those to train on, number for number."""
    seen = {each.numpy().tobytes() for each in train.images}
    copies = sum(each.numpy().tobytes() in seen for each in test.images)
    if copies:
        warn(
            f"{copies} of the {len(test)} test pictures of {folder} are copies of pictures to train on, so that the "
            "number says less of new pictures: remove copies, and keep apart what belongs together"
        )


def _as_options(message: str) -> str:
    """Return a message of `from_folder` with the names that its arguments have on the command line."""
    message = message.replace("skip_broken=True", "--skip-broken")
    if "lies in no subfolder" in message:
        message += " --conditional takes a picture's class from its subfolder: leave it out where there are no classes."
    if "background=" in message:
        message += " (background= is an argument of vaelib.data.from_folder, in Python)"
    return message
