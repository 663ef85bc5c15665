"""The trained models that ship with the book: our own weights, made by ``experiments/train_pretrained.py``."""

import json
from importlib.resources import as_file, files
from typing import Any

from vaelib import checkpoints
from vaelib.cvae import CVAE
from vaelib.vae import VAE

_WEIGHTS = files("vaelib") / "weights"


def names() -> list[str]:
    """Return the names of the models that ship with this version."""
    return sorted(
        file.name.removesuffix(".safetensors") for file in _WEIGHTS.iterdir() if file.name.endswith("safetensors")
    )


def load(name: str) -> VAE | CVAE:
    """Return a trained model on the CPU; its weights were rounded to float16 for shipping.

    Args:
        name: one of `names()`.

    Raises:
        ValueError: for a name that does not ship; it lists those that do.

    Source:
        Chapter 0; `record` tells how the model was trained and what it reaches.
    """
    with as_file(_WEIGHTS / f"{_known(name)}.safetensors") as path:
        model = build(checkpoints.peek(path)["config"]).half()
        checkpoints.load(path, model)
    return model.float().eval()


def build(config: dict[str, Any], seed: int = 0) -> VAE | CVAE:
    """Return a fresh model from the ``config`` of another: a CVAE where that has a ``condition_dim``, else a VAE.

    Args:
        config: sizes and names, as ``model.config`` or a checkpoint holds them.
        seed: seeds the first weights.

    Raises:
        ValueError: for sizes and names that can't be right.
    """
    return CVAE(**config, seed=seed) if "condition_dim" in config else VAE(**config, seed=seed)


def record(name: str) -> dict[str, Any]:
    """Return how a model was trained and what it reaches: command, seed, versions, device, date, test ELBO in nats.

    Args:
        name: one of `names()`.

    Raises:
        ValueError: for a name that does not ship; it lists those that do.
    """
    return json.loads((_WEIGHTS / f"{_known(name)}.json").read_text(encoding="utf-8"))


def _known(name: str) -> str:
    if name not in names():
        raise ValueError(f"no model {name!r} ships with vaelib: choose one of {', '.join(names())}")
    return name
