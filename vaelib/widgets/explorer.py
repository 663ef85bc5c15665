"""The latent explorer: a plane and sliders that move a code, and decoders that draw it where the reader is."""

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import numpy as np
import torch
import traitlets
from IPython.core.getipython import get_ipython
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelib.data import ImageData
from vaelib.networks import check_positive_integer, check_positive_number
from vaelib.widgets import _models, _page, _pictures
from vaelib.widgets._weights import describe

_STATIC = Path(__file__).with_name("static")
_STORED = "application/vnd.vaelib.explorer+json"


class LatentExplorer(anywidget.AnyWidget):
    """Explore a latent space by mouse, touch or keys; the decoder runs in the browser, without a kernel.

    A plane of two latent dimensions, a slider for each, the decoded image E[x|z], a walk between two points, and, for a
    CVAE, a choice of the class. Given data, the plane shows where their codes lie, and the nearest of them. With
    several models the same z is decoded by each, side by side.
    What a notebook keeps of it is a still image and what a page without a kernel needs to bring it to life; `save`
    writes such a page.

    ``z`` (list of K numbers) and ``label`` (class index) are traits: read them, set them, or `observe` them.

    A decoder that is not made by `vaelib.networks`, or a model that does more than its decoder's layers say, is
    computed in Python, and then moves only while a kernel runs. The models encode and decode in eval mode, and are
    then in the mode that they were in.

    Args:
        model: a VAE, CVAE or Autoencoder, the name of a shipped model, or a dict of several with a title each.
        data: images whose codes are shown; the first model encodes them.
        n_codes: how many of them.
        span: the range of each dimension is +-span prior standard deviations.

    Raises:
        ValueError: for an unknown name, models that differ in their sizes, images that are neither grey nor colour, a
            z of another length, NaN or beyond the span, a label that is no class, data without an image or with labels
            outside 0 to 255, n_codes or span that are not positive.
        TypeError: for what is no model with a decoder, or no ImageData.

    Source:
        Chapters 0, 6, 8 and 11.
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
        _models.check_data(data)
        n_codes, span = check_positive_integer("n_codes", n_codes), check_positive_number("span", span)
        models = _models.by_title(model)
        first = next(iter(models.values()))
        shown = None if data is None else data.subset(torch.arange(min(n_codes, len(data))))
        codes = np.zeros((0, first.latent_dim), np.float16) if shown is None else _models.codes(first, shown)
        (channels, height, width), latent_dim, classes = _models.common_sizes(models, data)
        self._models = models
        self._sizes = (latent_dim, classes, span)
        decoders = []
        self._pieces: list[dict[str, str]] = []
        numbers = b""
        sources = model.values() if isinstance(model, Mapping) else [model]
        for (name, each), source in zip(models.items(), sources, strict=True):
            described, piece = describe(name, each, start=len(numbers) // 2, span=span)
            decoders.append(described)
            # A shipped model's weights are known by its name: no notebook needs to repeat them.
            self._pieces.append({"shipped": source} if isinstance(source, str) else _as_text(piece))
            numbers += piece
        super().__init__(
            z=[0.0] * latent_dim,
            _spec={
                "height": height,
                "width": width,
                "latent_dim": latent_dim,
                "order": _order(codes),
                "span": span,
                "classes": _models.class_names(classes, data),
                "decoders": decoders,
                **({"names": list(data.classes)} if data is not None and data.classes else {}),
            },
            _weights=numbers,
            _codes=codes.astype("<f2").tobytes(),
            _code_labels=b"" if shown is None else bytes(shown.labels.tolist()),
            _thumbnails=b"" if shown is None else _pictures.sprite(shown.images.reshape(-1, channels, height, width)),
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
        images = self.decode().unflatten(1, (-1, self._spec["height"], self._spec["width"]))
        decoded = dict(zip(self._models, images, strict=True))
        codes = np.frombuffer(self._codes, "<f2").reshape(-1, self._sizes[0]).astype(np.float32)
        return _pictures.still(self._spec, self.z, codes, list(self._code_labels), decoded)

    def save(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Write one HTML file in which the explorer lives, from ``z`` and ``label`` on: no kernel, no network.

        The weights are in it, those of shipped models too. A decoder that the browser can't compute stands still
        there, and the page says why.

        Args:
            path: the file, such as "page.html"; one of that name is replaced, missing folders are made.
            title: stands above the explorer and in the browser's tab.

        Raises:
            ValueError: for a name that does not end in .html or .htm.
            OSError: where the file can't be written; one that was there is untouched.
        """
        place = ", ".join(f"z{k + 1} = {self.z[k]:.2f}" for k in self._spec["order"][:2])
        _page.write(
            path,
            title or "Latent explorer",
            kind="explorer",
            state=self.stored() | {"_weights": [_as_text(self._weights)]},
            still=self.still(),
            alt=f"The latent plane with a cross at {place}, and the image decoded there by {', '.join(self._models)}.",
        )

    def __repr__(self) -> str:
        """Return a text without a memory address, which would differ from run to run."""
        return f"LatentExplorer of {', '.join(self._models)}"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the live widget, and for where there is no kernel a still image and the state."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        still = base64.b64encode(self.still()).decode()
        return {**data, "image/png": still, _STORED: self.stored()}, metadata

    def decode(self) -> Tensor:
        """Return the mean image of each model at ``z`` and ``label``, computed in Python: ``(models, D)``."""
        labels = [self.label] if self._sizes[1] else None
        return torch.cat([_models.mean_images(model, [self.z], labels) for model in self._models.values()])

    def _draw_in_python(self, _change: object = None) -> None:
        unknown = [i for i, each in enumerate(self._spec["decoders"]) if not each["layers"]]
        self._frames = _pictures.in_bytes(self.decode()[unknown])


def _order(codes: NDArray[np.float16]) -> list[int]:
    """Return the dimensions, those that vary most from image to image first; a plane keeps its axes."""
    latent_dim = codes.shape[1]
    if latent_dim <= 2 or len(codes) < 2:
        return list(range(latent_dim))
    return np.argsort(-codes.astype(np.float32).var(0), kind="stable").tolist()


def _as_text(value: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(value).decode()}
