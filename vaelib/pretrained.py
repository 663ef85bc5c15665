"""The trained models that ship with the book: our own weights, made by ``experiments/train_pretrained.py``."""

import json
from collections.abc import Sequence
from importlib.resources import as_file, files
from typing import Any

from vaelib import checkpoints
from vaelib.cvae import CVAE
from vaelib.networks import conv_decoder, conv_encoder, seeded
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
    if isinstance(model, CVAE) and (_WEIGHTS / f"{name}.json").is_file():
        settings = record(name)["settings"]
        model._takes_classes = settings.get("data") != "scene" and "quadrants" not in settings
    return model.float().eval()


def build(config: dict[str, Any], seed: int = 0) -> VAE | CVAE:
    """Return a fresh model from the ``config`` of another: a CVAE where that has a ``condition_dim``, else a VAE.

    With ``channels`` its networks are convolutional (`vaelib.networks.conv_encoder`), and its hidden_dims are ().
    ``classes``, the names of a CVAE's, are kept in its ``config``.

    Args:
        config: sizes and names, as ``model.config`` or a checkpoint holds them.
        seed: seeds the first weights.

    Raises:
        ValueError: for sizes and names that can't be right.
    """
    rest = dict(config)
    channels, classes = rest.pop("channels", None), rest.pop("classes", None)
    kind = CVAE if "condition_dim" in rest else VAE
    if channels is None:
        model = kind(**rest, seed=seed)
        model.config |= {} if classes is None else {"classes": list(classes)}
        return model
    if rest["hidden_dims"]:
        raise ValueError(f"hidden_dims {rest['hidden_dims']} belong to a model without channels: give () beside them")
    shape, more, draw = rest["data_dim"], rest.get("condition_dim", 0), seeded(seed)
    look = {"activation": rest.get("activation", "relu"), "generator": draw}
    if isinstance(shape, Sequence) and len(shape) == 3:
        shape = (shape[0] + more, *shape[1:])  # a condition is constant channels beside the image
    encoder = conv_encoder(shape, channels, 2 * rest["latent_dim"], **look)
    decoder = conv_decoder(rest["data_dim"], channels, rest["latent_dim"] + more, **look)
    model = kind(**rest, seed=seed, encoder=encoder, decoder=decoder)
    model.config |= {} if classes is None else {"classes": list(classes)}
    model.config["channels"] = [int(each) for each in channels]
    return model


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
