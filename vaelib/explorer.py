"""The latent explorer: a plane and sliders that move a code, and decoders that draw it where the reader is."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import matplotlib.figure
import numpy as np
import torch
import traitlets
from IPython.core.getipython import get_ipython
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from vaelib import figures, pretrained
from vaelib.data import ImageData
from vaelib.latent import encode_dataset

_ACTIVATIONS = {nn.ReLU: "relu", nn.Tanh: "tanh"}
_STATIC = Path(__file__).with_name("static")
_STORED = "application/vnd.vaelib.explorer+json"


class LatentExplorer(anywidget.AnyWidget):
    """Explore a latent space by mouse, touch or keys; the decoder runs in the browser, without a kernel.

    A plane of two latent dimensions, a slider for each, the decoded image E[x|z], a walk between two points, and, for a
    CVAE, a choice of the class. Given data, the plane shows where their codes lie, and the nearest of them. With
    several models the same z is decoded by each, side by side.
    What a notebook keeps of it is a still image and what a page without a kernel needs to bring it to life.

    ``z`` (list of K numbers) and ``label`` (class index) are traits: read them, set them, or `observe` them.

    Args:
        model: a VAE, CVAE or Autoencoder, the name of a shipped model, or a dict of several with a title each.
        data: images whose codes are shown; the first model encodes them.
        n_codes: how many of them.
        span: the range of each dimension is +-span prior standard deviations.

    Raises: ValueError for an unknown name, models that differ in their sizes, a z of another length, NaN or beyond the
    span, a label that is no class; TypeError for what is no model with a decoder.
    Source: chapters 0, 6, 8 and 11. A decoder that is not made by `vaelib.networks.mlp` is computed in Python, and then
    moves only while a kernel runs.
    """

    # As text: for a path anywidget watches the file, and holds every widget that was ever made.
    _esm = (_STATIC / "explorer.js").read_text(encoding="utf-8")
    _css = (_STATIC / "explorer.css").read_text(encoding="utf-8")

    z = traitlets.List(traitlets.Float()).tag(sync=True)
    label = traitlets.Int(0).tag(sync=True)
    _spec = traitlets.Dict().tag(sync=True)
    _weights = traitlets.Bytes(b"").tag(sync=True)
    _codes = traitlets.Bytes(b"").tag(sync=True)
    _code_labels = traitlets.Bytes(b"").tag(sync=True)
    _thumbnails = traitlets.Bytes(b"").tag(sync=True)
    _frames = traitlets.Bytes(b"").tag(sync=True)

    _of_cell: ClassVar[dict[str, tuple[str, list["LatentExplorer"]]]] = {}

    def __init__(
        self,
        model: nn.Module | str | Mapping[str, nn.Module | str],
        data: ImageData | None = None,
        n_codes: int = 300,
        span: float = 3.0,
    ) -> None:
        models = _models(model)
        first = next(iter(models.values()))
        classes = getattr(first, "condition_dim", 0)
        self._models = models
        self._sizes = (first.latent_dim, classes, float(span))
        shown = None if data is None else data.subset(torch.arange(min(n_codes, len(data))))
        codes = np.zeros((0, first.latent_dim), np.float16) if shown is None else _codes(first, shown)
        decoders = []
        self._pieces: list[dict[str, str]] = []
        numbers = b""
        for (name, each), source in zip(models.items(), _sources(model), strict=True):
            described, piece = _describe(name, each, start=len(numbers) // 2)
            decoders.append(described)
            # A shipped model's weights are known by its name: no notebook needs to repeat them.
            self._pieces.append({"shipped": source} if isinstance(source, str) else _as_text(piece))
            numbers += piece
        height, width = _shape(first.data_dim, data)
        super().__init__(
            z=[0.0] * first.latent_dim,
            _spec={
                "height": height,
                "width": width,
                "latent_dim": first.latent_dim,
                "order": _order(codes),
                "span": float(span),
                "classes": [str(k) for k in range(classes)],
                "decoders": decoders,
            },
            _weights=numbers,
            _codes=codes.astype("<f2").tobytes(),
            _code_labels=b"" if shown is None else bytes(shown.labels.tolist()),
            _thumbnails=b"" if shown is None else _sprite(shown.images),
        )
        self._replace_former()
        if not all(each["layers"] for each in decoders):
            self._draw_in_python()
            self.observe(self._draw_in_python, names=["z", "label"])

    @traitlets.validate("z")
    def _check_z(self, proposal: dict[str, Any]) -> list[float]:
        latent_dim, _, span = self._sizes
        z = [float(value) for value in proposal["value"]]
        if len(z) != latent_dim:
            raise ValueError(f"z has {len(z)} numbers: this model has latent_dim = {latent_dim}")
        for k, value in enumerate(z):
            # A NaN is in no interval.
            if not -span <= value <= span:
                raise ValueError(f"z[{k}] is {value}: every dimension lies between {-span} and {span}")
        return z

    @traitlets.validate("label")
    def _check_label(self, proposal: dict[str, Any]) -> int:
        classes = self._sizes[1]
        if not 0 <= proposal["value"] < max(1, classes):
            raise ValueError(
                f"label is {proposal['value']}: "
                + (f"classes are 0 to {classes - 1}" if classes else "this model has no classes")
            )
        return int(proposal["value"])

    def _replace_former(self) -> None:
        """Close what the same cell made when it ran before: ipywidgets would keep it for ever, weights and all."""
        parent = getattr(get_ipython(), "parent_header", {})
        cell, run = parent.get("metadata", {}).get("cellId"), parent.get("header", {}).get("msg_id", "")
        if cell is None:
            return
        former_run, explorers = self._of_cell.get(cell, (run, []))
        if former_run != run:
            for explorer in explorers:
                explorer.close()
                # The notebook's history of outputs still holds the object: let it be a light one.
                explorer._weights = explorer._codes = explorer._thumbnails = explorer._frames = b""
                explorer._models = {}
            explorers = []
        self._of_cell[cell] = run, [*explorers, self]

    def stored(self) -> dict[str, Any]:
        """Return the state as JSON can hold it, for a page without a kernel: bytes become ``{"base64": "..."}``.

        The weights are a list, one part a decoder; those of a shipped model are ``{"shipped": name}``. `mount` of
        ``static/explorer.js`` shows the explorer from it.
        """
        names = ("z", "label", "_spec", "_codes", "_code_labels", "_thumbnails", "_frames")
        state = {name: getattr(self, name) for name in names}
        texts = {name: _as_text(value) if isinstance(value, bytes) else value for name, value in state.items()}
        return texts | {"_weights": self._pieces}

    def still(self) -> bytes:
        """Return the plane and the decoded images at ``z`` and ``label`` as a PNG file."""
        height, width = self._spec["height"], self._spec["width"]
        images = self.decode().reshape(-1, height, width)
        # Not of pyplot, which would show the figure a second time.
        inches = 0.6 + 2.6 * (1 + len(images))
        figure = matplotlib.figure.Figure(figsize=(inches, 2.9))
        figure.set_layout_engine("none")  # the book's style has one that takes three times as long
        margins = {"left": 0.5 / inches, "right": 1 - 0.1 / inches, "bottom": 0.17, "top": 0.9, "wspace": 0.1}
        plane, *screens = figure.subplots(1, 1 + len(images), gridspec_kw=margins)
        self._draw_plane(plane)
        for axes, name, image in zip(screens, self._models, images, strict=True):
            axes.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set(title=name, xticks=[], yticks=[])
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=80)
        return file.getvalue()

    def _draw_plane(self, axes: Any) -> None:
        latent_dim, _, span = self._sizes
        across, up = (self._spec["order"] * 2)[:2]
        codes = np.frombuffer(self._codes, "<f2").reshape(-1, latent_dim)[:, [across, up]].astype(np.float32)
        figures.latent_scatter(codes, list(self._code_labels), axes, prior_radii=np.arange(1, span + 1).tolist())
        for width, colour in ((5, "white"), (2.5, "black")):
            axes.plot(self.z[across], self.z[up], "+", markersize=18, markeredgewidth=width, color=colour, zorder=5)
        axes.set(xlim=(-span, span), ylim=(-span, span), xlabel=f"$z_{{{across + 1}}}$", ylabel=f"$z_{{{up + 1}}}$")
        axes.set_aspect("equal", adjustable="box")

    def __repr__(self) -> str:
        """Return a text without a memory address, which would differ from run to run."""
        return f"LatentExplorer of {', '.join(self._models)}"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the live widget, and for where there is no kernel a still image and the state."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        still = base64.b64encode(self.still()).decode()
        return {**data, "image/png": still, _STORED: self.stored()}, metadata

    @torch.no_grad()
    def decode(self) -> Tensor:
        """Return the mean image of each model at ``z`` and ``label``, computed in Python: ``(models, D)``."""
        z = torch.tensor([self.z])
        given = (torch.tensor([self.label]),) if self._sizes[1] else ()
        images = [model.decode(z, *given) for model in self._models.values()]
        return torch.cat([_mean(m, image) for m, image in zip(self._models.values(), images, strict=True)])

    def _draw_in_python(self, _change: object = None) -> None:
        described = [bool(each["layers"]) for each in self._spec["decoders"]]
        self._frames = b"".join(
            _bytes(image) for image, known in zip(self.decode(), described, strict=True) if not known
        )


def _models(model: nn.Module | str | Mapping[str, nn.Module | str]) -> dict[str, Any]:
    """Return the models by title, loaded where they were named, after checking that they can be compared."""
    chosen = dict(model) if isinstance(model, Mapping) else {model if isinstance(model, str) else "decoded": model}
    if not chosen:
        raise ValueError("there is no model to explore: give one, or a dict of them")
    models = {name: pretrained.load(each) if isinstance(each, str) else each for name, each in chosen.items()}
    for name, each in models.items():
        if not (isinstance(each, nn.Module) and hasattr(each, "decode") and hasattr(each, "latent_dim")):
            raise TypeError(
                f"{name!r} is a {type(each).__name__}: the explorer takes a VAE, a CVAE or an Autoencoder, the name of "
                "a shipped model, or a dict of these"
            )
    sizes = {name: (each.data_dim, each.latent_dim, getattr(each, "condition_dim", 0)) for name, each in models.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"models side by side need the same (data_dim, latent_dim, condition_dim), not {sizes}")
    return models


def _sources(model: nn.Module | str | Mapping[str, nn.Module | str]) -> list[nn.Module | str]:
    return list(model.values()) if isinstance(model, Mapping) else [model]


def _describe(name: str, model: Any, start: int) -> tuple[dict[str, Any], bytes]:
    """Return what the browser must know of a decoder, and its weights, the first at `start`; no layers if it can't."""
    output = "sigmoid" if getattr(model, "likelihood", None) == "bernoulli" else "mean"
    layers: list[dict[str, Any]] = []
    numbers = b""
    for module in list(model.decoder) if isinstance(model.decoder, nn.Sequential) else []:
        if isinstance(module, nn.Linear) and module.bias is not None:
            place = {"inputs": module.in_features, "outputs": module.out_features, "start": start + len(numbers) // 2}
            layers.append({**place, "activation": "none"})
            parts = (module.weight, module.bias)
            numbers += b"".join(part.detach().cpu().numpy().astype("<f2").tobytes() for part in parts)
        elif layers and (activation := _activation(module)) is not None:
            layers[-1]["activation"] = activation
        else:
            return {"name": name, "output": output, "layers": []}, b""
    return {"name": name, "output": output, "layers": layers}, numbers


def _activation(module: nn.Module) -> str | None:
    if isinstance(module, nn.LeakyReLU) and module.negative_slope == 0.2:
        return "leaky_relu"
    return _ACTIVATIONS.get(type(module))


def _codes(model: Any, data: ImageData) -> NDArray[np.float16]:
    """Return the codes of the images: the posterior means, or an autoencoder's codes."""
    if hasattr(model, "log_likelihood"):
        given = (data.labels,) if hasattr(model, "condition_dim") else ()
        codes = encode_dataset(model, data.images, *given).mu
    else:
        with torch.no_grad():
            codes = model.encode(data.images)
    return codes.cpu().numpy().astype(np.float16)


def _order(codes: NDArray[np.float16]) -> list[int]:
    """Return the dimensions, those that vary most from image to image first; a plane keeps its axes."""
    latent_dim = codes.shape[1]
    if latent_dim <= 2 or len(codes) < 2:
        return list(range(latent_dim))
    return np.argsort(-codes.astype(np.float32).var(0), kind="stable").tolist()


def _shape(data_dim: int, data: ImageData | None) -> tuple[int, int]:
    """Return height and width of the images: those of the data, or of a square."""
    if data is not None:
        return data.images.shape[-2], data.images.shape[-1]
    side = round(data_dim**0.5)
    if side * side != data_dim:
        raise ValueError(f"{data_dim} pixels are no square: give data, whose images have a height and a width")
    return side, side


def _mean(model: Any, decoded: Tensor) -> Tensor:
    return model.mean(decoded) if hasattr(model, "mean") else decoded


def _bytes(images: Tensor) -> bytes:
    """Return pixels in [0, 1] as one byte each."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy().tobytes()


def _sprite(images: Tensor) -> bytes:
    """Return the images one below the other as a PNG file of 8 greys: small pictures, which need no more."""
    greys = (images.clamp(0, 1) * 7).round().mul(255 / 7).round().to(torch.uint8).flatten(0, 1).cpu().numpy()
    file = io.BytesIO()
    palette = Image.fromarray(greys).quantize(8, dither=Image.Dither.NONE)
    palette.save(file, "png", optimize=True, bits=4)
    return file.getvalue()


def _as_text(value: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(value).decode()}
