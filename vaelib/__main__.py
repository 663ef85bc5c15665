"""The command line: ``vaelib train``, ``evaluate`` and ``data``; ``python -m vaelib`` is the same."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch

from vaelib import __version__, checkpoints, data, pretrained
from vaelib.cvae import CVAE
from vaelib.evaluation import log_evidence, mean_elbo
from vaelib.networks import ACTIVATIONS
from vaelib.training import TrainingError, choose_device, fit
from vaelib.vae import VAE


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2 and one line."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; what goes wrong is said in one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError, TrainingError) as error:
        print(f"vaelib {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"vaelib {options.command}: stopped", file=sys.stderr)
        return 130
    return 0


def _train(options: argparse.Namespace) -> None:
    train, test = data.load(options.data), data.load(options.data, "test")
    validation = None
    if options.validation:
        train, validation = data.train_validation_split(train, options.validation, seed=options.seed)
    config = {
        "data_dim": train.images[0].numel(),
        "hidden_dims": options.hidden,
        "latent_dim": options.latent,
        "likelihood": options.likelihood,
        "activation": options.activation,
    }
    if options.conditional:
        config["condition_dim"] = int(train.labels.max()) + 1
    model = pretrained.build(config, seed=options.seed)
    if options.out is not None:
        _check_writable(options.out)
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
        return
    _report(model, test, options)


def _evaluate(options: argparse.Namespace) -> None:
    if options.model in pretrained.names():
        model = pretrained.load(options.model)
    else:
        config = checkpoints.peek(options.model).get("config")
        if config is None:
            raise ValueError(
                f"{options.model} does not say how its model was built: it was not written by vaelib train"
            )
        model = pretrained.build(config)
        checkpoints.load(options.model, model)
    _report(model, data.load(options.data, "test"), options)


def _report(model: VAE | CVAE, test: data.ImageData, options: argparse.Namespace) -> None:
    images = test.images
    if options.binarize:
        images = data.binarize(images, torch.Generator().manual_seed(0))
    conditions = test.labels if isinstance(model, CVAE) else None
    model.to(choose_device(options.device))
    pixels = "binarised pixels" if options.binarize else "grey pixels, not binarised"
    which = f"{len(test)} images of {test.name}{'' if conditions is None else ' given their class'}, {pixels}"
    elbo = mean_elbo(model, images, conditions)
    print(f"test -ELBO {-elbo:.2f} nats per image ({which}, z sampled once)")
    if options.samples:
        evidence = log_evidence(model, images, options.samples, conditions, progress=not options.quiet)
        print(f"test -log p {-evidence.mean():.2f} nats per image ({which}, {options.samples} importance samples)")


def _data(options: argparse.Namespace) -> None:
    for name in options.names or data.names():
        for split in ("train", "test"):
            found = data.load(name, split)
            shape = " x ".join(map(str, found.images.shape))
            print(f"{name} {split}: {shape} images, verified")
        print(*data.locate(name), sep="\n")


def _check_writable(path: Path) -> None:
    """Fail before training, not after it, where the result can't be written."""
    with checkpoints.lock(path):
        pass


def _parser() -> argparse.ArgumentParser:
    name = "vaelib" if Path(sys.argv[0]).stem == "vaelib" else "python -m vaelib"
    parser = _Parser(prog=name, description="Train and evaluate the models of the VAE book.")
    parser.add_argument("--version", action="version", version=f"vaelib {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    train = commands.add_parser("train", help="train a VAE and print its test -ELBO")
    train.add_argument("--hidden", type=int, nargs="*", default=[400], help="hidden widths of the encoder (400)")
    train.add_argument("--latent", type=int, default=20, help="latent dimensions (20)")
    train.add_argument("--likelihood", choices=["bernoulli", "gaussian"], default="bernoulli")
    train.add_argument("--activation", choices=list(ACTIVATIONS), default="relu")
    train.add_argument("--epochs", type=int, default=10)
    train.add_argument("--batch-size", type=int, default=128)
    train.add_argument("--learning-rate", type=float, default=3e-3, help="highest rate of the schedule (0.003)")
    train.add_argument("--constant", action="store_true", help="keep the rate constant instead of the linear schedule")
    train.add_argument("--validation", type=int, default=0, help="training images set aside for validation (0)")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--out", type=Path, help="checkpoint to write; an interrupted run goes on from it")
    train.add_argument("--conditional", action="store_true", help="train a CVAE, conditioned on the class")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="print the test -ELBO, or log evidence, of a saved model")
    evaluate.add_argument("model", help=f"a checkpoint, or one of: {', '.join(pretrained.names())}")
    evaluate.set_defaults(run=_evaluate)

    for command in (train, evaluate):
        command.add_argument("--data", choices=data.names(), default="mnist")
        command.add_argument("--binarize", action="store_true", help="draw binary pixels instead of using grey ones")
        command.add_argument("--samples", type=int, default=0, help="importance samples of the log evidence (none)")
        command.add_argument("--quiet", action="store_true", help="no progress line")
        command.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")

    fetch = commands.add_parser("data", help="find, download and verify the data")
    fetch.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(data.names())} (all)")
    fetch.set_defaults(run=_data)
    return parser


if __name__ == "__main__":
    sys.exit(main())
