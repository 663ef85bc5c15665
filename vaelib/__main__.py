"""The command line: ``vaelib train``, ``evaluate`` and ``data``; ``python -m vaelib`` is the same."""

import argparse
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from vaelib import __version__, checkpoints, data, pretrained
from vaelib import _own as own_pictures
from vaelib._sets import find
from vaelib.cvae import CVAE
from vaelib.evaluation import bits_per_dimension, log_evidence, mean_elbo
from vaelib.likelihoods import Bernoulli
from vaelib.networks import ACTIVATIONS, check_positive_number
from vaelib.training import TrainingError, choose_device, fit
from vaelib.vae import VAE

# As a shell names a command that a signal ended: Ctrl-C, and a pipe that nobody reads.
_STOPPED, _PIPE = 128 + 2, 128 + 13
# A layer wider than any memory, and more of anything than can be waited for.
_WIDEST, _MANY = 10**6, 10**9


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2 and one line."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; what goes wrong is said in one line on standard error."""
    shown = warnings.formatwarning
    warnings.formatwarning = lambda message, *place: f"vaelib: {message}\n"  # without the line of the program
    try:
        try:
            return _run(_parser().parse_args(arguments))
        finally:
            warnings.formatwarning = shown
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer is not to be tried once more at the end of Python, with a traceback.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # `| head` has read enough
            return _PIPE
        print(f"vaelib: cannot write to standard output: {error.strerror}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    try:
        return options.run(options)
    except BrokenPipeError:
        raise
    except (ValueError, OSError, TrainingError) as error:
        message = " ".join(str(error).split())
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
            raise
        message = "there is not enough memory for this model: take a smaller --hidden, --channels or --latent"
    except KeyboardInterrupt:
        message = "stopped"
    print(f"vaelib {options.command}: {message}", file=sys.stderr)
    return _STOPPED if message == "stopped" else 1


def _train(options: argparse.Namespace) -> int:
    if options.out is not None:
        _check_writable(options.out)
    if options.channels and options.hidden:
        raise ValueError("--hidden gives the layers of a model without --channels: leave one of them out")
    train, test = _read(options)
    validation = None
    if options.validation >= len(train):
        raise ValueError(
            f"--validation {options.validation}: {options.data} has {len(train)} training images, take less"
        )
    if options.validation:
        train, validation = data.train_validation_split(train, options.validation, seed=options.seed)
        if options.binarize:  # as the images of training and of the report are
            drawn = data.binarize(validation.images, torch.Generator().manual_seed(options.seed))
            validation = replace(validation, images=drawn)
    config = _config(train, options)
    model = pretrained.build(config, seed=options.seed)
    if config.get("sigma") == "learned":
        # The sigma that fits best to a decoder of the mean image alone, where training starts: from 1 the way is long.
        deviation = (train.images - train.images.mean(0)).square().mean().sqrt().clamp(min=1e-3)
        model.log_sigma.data.copy_(deviation.log())
    history = fit(
        model,
        train,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        schedule=None if options.constant else "linear",
        transform=data.binarize if options.binarize else None,
        validation=validation,
        device=options.device,
        seed=options.seed,
        checkpoint=options.out,
        progress=not options.quiet,
    )
    if history.interrupted:
        print(
            f"stopped in epoch {history.epochs + 1}"
            + (f"; the same command goes on from {options.out}" if options.out else "")
        )
        return _STOPPED
    return _report(model, test, options)


def _config(train: data.ImageData, options: argparse.Namespace) -> dict[str, Any]:
    """Return what the model is made from: its likelihood is Bernoulli for grey images, Gaussian for those in colour."""
    shape = tuple(train.images.shape[1:])
    colour = len(shape) == 3
    likelihood = options.likelihood or ("gaussian" if colour else "bernoulli")
    config: dict[str, Any] = {
        "data_dim": shape if colour else math.prod(shape),
        "hidden_dims": [400] if options.hidden is None else options.hidden,
        "latent_dim": options.latent,
        "likelihood": likelihood,
        "activation": options.activation,
    }
    if options.channels:
        config |= {"data_dim": shape if colour else (1, *shape), "hidden_dims": [], "channels": options.channels}
    if options.sigma is not None or (likelihood == "gaussian" and colour):
        config["sigma"] = "learned" if options.sigma is None else options.sigma
    if options.conditional:
        config["condition_dim"] = len(train.classes) if train.classes else int(train.labels.max()) + 1
        if train.classes:
            config["classes"] = list(train.classes)
    return config


def _read(options: argparse.Namespace, model: VAE | CVAE | None = None) -> tuple[data.ImageData, data.ImageData]:
    """Return the images to train and to test with; of a folder's pictures every tenth is for the test.

    Args:
        options: of the command line.
        model: a trained one, into whose shape and classes a folder's pictures are then brought.
    """
    if options.data in data.names():
        own_pictures.refuse_for_a_name(options)
        return data.load(options.data), data.load(options.data, "test")
    size, colour, classes = 28 if options.size is None else options.size, bool(options.colour), options.conditional
    if model is not None:
        shape = model.data_shape
        size, colour = (math.isqrt(shape[0]), False) if len(shape) == 1 else (shape[-1], shape[0] == 3)
        classes = classes and model.config.get("classes", True)
    return own_pictures.parts(options, size, colour, classes)


def _evaluate(options: argparse.Namespace) -> int:
    if options.model in pretrained.names():
        model = pretrained.load(options.model)
    elif not os.path.lexists(options.model):
        raise FileNotFoundError(
            f"there is no file {options.model}, nor does a model of that name ship with vaelib: take one of "
            f"{', '.join(pretrained.names())}, or write a file with vaelib train --out {options.model}"
        )
    else:
        model = _rebuilt(options.model)
    options.conditional, options.likelihood = isinstance(model, CVAE), getattr(model.likelihood, "name", None)
    train, test = _read(options, model)
    pixels, wanted = test.images[0].numel(), math.prod(model.data_shape)
    if pixels != wanted:
        raise ValueError(
            f"{options.model} takes images of {wanted} pixels, and those of {options.data} have {pixels}: give the "
            "--data that it was trained on"
        )
    if options.data not in data.names() and options.model not in pretrained.names():
        conditions = train.labels if options.conditional else None
        settings = checkpoints.peek(options.model).get("settings") or {}
        own_pictures.note_others(model, train, conditions, settings, (options.model, options.data))
    return _report(model, test, options)


def _rebuilt(path: str) -> VAE | CVAE:
    """Return the model of a checkpoint that `vaelib train` wrote, or `fit` for a model of vaelib's own networks."""
    config = checkpoints.peek(path).get("config")
    try:
        model = pretrained.build(config)  # type: ignore[arg-type]
        checkpoints.load(path, model)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path} does not say enough of how its model was built, which vaelib train did not write: build it in "
            "Python, then call vaelib.checkpoints.load(path, model) and vaelib.evaluation.mean_elbo(model, images)"
        ) from error
    return model


def _report(model: VAE | CVAE, test: data.ImageData, options: argparse.Namespace) -> int:
    images = test.images
    if options.binarize:
        images = data.binarize(images, torch.Generator().manual_seed(0))
    conditions = test.labels if isinstance(model, CVAE) else None
    model.to(choose_device(options.device))
    pixels = "binarised pixels" if options.binarize else "grey pixels, not binarised"
    if images.ndim == 4:
        pixels = "binarised colours" if options.binarize else "in colour"
        if isinstance(model.likelihood, Bernoulli) and not ((images == 0) | (images == 1)).all():
            pixels += ", where Bernoulli's formula is no likelihood"
    which = f"{len(test)} images of {test.name}{'' if conditions is None else ' given their class'}, {pixels}"
    elbo = mean_elbo(model, images, conditions)
    print(f"test -ELBO {-elbo:.2f} nats per image ({which}, z sampled once)")
    name = getattr(model.likelihood, "name", "")
    if not options.binarize and (name == "discretised_logistic" or (name == "gaussian" and images.ndim == 4)):
        kind = "a bound" if name == "discretised_logistic" else "of a density, pixels without noise: no bound"
        levels = None if name == "discretised_logistic" else 256
        print(f"test bits per dimension {bits_per_dimension(model, elbo, levels):.3f} ({kind}; 256 values a number)")
    if options.samples:
        evidence = log_evidence(model, images, options.samples, conditions, progress=not options.quiet)
        print(f"test -log p {-evidence.mean():.2f} nats per image ({which}, {options.samples} importance samples)")
    return 0


def _data(options: argparse.Namespace) -> int:
    missing = []
    for name in options.names or data.names():
        try:
            for split in ("train", "test"):
                found = data.load(name, split)
                shape = " x ".join(map(str, found.images.shape))
                proven = all(each.state in ("verified", "missing") for each in data.locate(name))
                print(f"{name} {split}: {shape} images{', verified' if proven else ''}")
        except data.DataNotFoundError as error:
            if options.names:
                raise
            if getattr(find(name), "fetched", True):
                missing.append(str(error))
        print(*data.locate(name), sep="\n")
    if missing:
        raise data.DataNotFoundError("\n".join(missing))
    return 0


def _check_writable(path: Path) -> None:
    """Fail before training, not after it, where the result can't be written."""
    try:
        with checkpoints.lock(path):
            if os.path.lexists(path):
                checkpoints.peek(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"--out: {error}; or give --out another file") from error


def _whole(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number from `least` to `most`."""

    def read(text: str) -> int:
        with suppress(ValueError):
            if least <= int(text) <= most:
                return int(text)
        raise argparse.ArgumentTypeError(f"give a whole number from {least} to {most:,}, not {text!r}")

    return read


def _positive(text: str) -> float:
    with suppress(ValueError):
        return check_positive_number("", float(text))
    raise argparse.ArgumentTypeError(f"give a positive number, not {text!r}")


def _device(text: str) -> str:
    try:
        choose_device(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error} (--device cpu works everywhere)") from error
    return text


def _sigma(text: str) -> float | str:
    return text if text == "learned" else _positive(text)


def _images(text: str) -> str:
    """Read the name of a data set, or the path of a folder of pictures."""
    if text in data.names() or os.path.isdir(os.path.expanduser(text)):
        return text
    if os.path.exists(os.path.expanduser(text)):
        raise argparse.ArgumentTypeError(f"{text} is a file: give the folder that the pictures lie in")
    names = ", ".join(data.names())
    raise argparse.ArgumentTypeError(
        f"there are no data of the name {text!r}, and no such folder: take {names}, or the path of a folder of pictures"
    )


def _data_name(text: str) -> str:
    if text not in data.names():
        raise argparse.ArgumentTypeError(f"there are no data of the name {text!r}: take {', '.join(data.names())}")
    return text


def _parser() -> argparse.ArgumentParser:
    name = "vaelib" if Path(sys.argv[0]).stem == "vaelib" else "python -m vaelib"
    parser = _Parser(prog=name, description="Train and evaluate the models of the VAE book.")
    parser.add_argument("--version", action="version", version=f"vaelib {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    train = commands.add_parser("train", help="train a VAE and print its test -ELBO")
    train.add_argument(
        "--hidden", type=_whole(1, _WIDEST), nargs="*", default=None, help="hidden widths of the encoder (400)"
    )
    train.add_argument(
        "--channels",
        type=_whole(1, _WIDEST),
        nargs="+",
        help="convolutions with so many channels in place of --hidden, as 32 64; each halves height and width",
    )
    train.add_argument("--latent", type=_whole(1, _WIDEST), default=20, help="latent dimensions (20)")
    train.add_argument(
        "--likelihood",
        choices=["bernoulli", "gaussian", "discretised_logistic"],
        help="p(x|z) (bernoulli; in colour gaussian)",
    )
    train.add_argument(
        "--sigma", type=_sigma, help="of --likelihood gaussian, a number or learned (1; in colour learned)"
    )
    train.add_argument("--activation", choices=list(ACTIVATIONS), default="relu", help="of the hidden layers (relu)")
    train.add_argument("--epochs", type=_whole(1, _MANY), default=10, help="passes over the images (10)")
    train.add_argument("--batch-size", type=_whole(1, _MANY), default=128, help="images in a step (128)")
    train.add_argument("--learning-rate", type=_positive, default=3e-3, help="highest rate of the schedule (0.003)")
    train.add_argument("--constant", action="store_true", help="keep the rate constant instead of the linear schedule")
    train.add_argument(
        "--validation", type=_whole(0, _MANY), default=0, help="training images set aside for validation (0)"
    )
    train.add_argument("--seed", type=_whole(0, 2**32 - 1), default=0, help="of weights, order and noise (0)")
    train.add_argument("--out", type=Path, help="checkpoint to write; an interrupted run goes on from it")
    train.add_argument("--size", type=_whole(1, 4096), default=None, help="side of the pictures of a folder (28)")
    train.add_argument("--colour", action="store_true", help="read the pictures of a folder in colour")
    train.add_argument("--conditional", action="store_true", help="train a CVAE, conditioned on the class (subfolder)")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="print the test -ELBO, or log evidence, of a saved model")
    evaluate.add_argument("model", help=f"a checkpoint, or one of: {', '.join(pretrained.names())}")
    evaluate.set_defaults(run=_evaluate, size=None, colour=None)

    for command in (train, evaluate):
        command.add_argument(
            "--data",
            type=_images,
            default="mnist",
            metavar="NAME-OR-FOLDER",
            help=f"the images: {', '.join(data.names())}, or a folder of pictures (mnist)",
        )
        command.add_argument("--skip-broken", action="store_true", help="leave out pictures that can't be read")
        command.add_argument("--binarize", action="store_true", help="draw binary pixels instead of using grey ones")
        command.add_argument(
            "--samples", type=_whole(0, _MANY), default=0, help="importance samples of the log evidence (0: none)"
        )
        command.add_argument("--quiet", action="store_true", help="no progress line")
        command.add_argument("--device", type=_device, default="auto", help="auto, cpu, cuda or mps (auto)")

    fetch = commands.add_parser("data", help="find, download and verify the data")
    fetch.add_argument("names", nargs="*", type=_data_name, metavar="NAME", help=f"{', '.join(data.names())} (all)")
    fetch.set_defaults(run=_data)
    return parser


if __name__ == "__main__":
    sys.exit(main())
