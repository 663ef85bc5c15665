"""The scene explorer: the reader moves a scene's factors, and sees the truth and what a model makes of it."""

import base64
import io
import math
import os
from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vaelib import pretrained, scene
from vaelib.cvae import CVAE
from vaelib.networks import evaluating, first_tensor
from vaelib.vae import VAE
from vaelib.widgets import _page

_STORED = "application/vnd.vaelib.frames+json"
_LARGER = 6  # pixels of the screen for one of a picture
_QUALITY = 75  # of a still, of 100: edges stay sharp in half the bytes
# The positions of each slider, in the order of `scene.FACTORS`.
_POSITIONS: tuple[tuple[float, ...], ...] = (
    tuple(math.radians(15 * k) for k in range(24)),
    tuple(1 + 0.2 * k for k in range(14)),
    tuple(0.25 * k for k in range(7)),
    tuple(k / 12 for k in range(12)),
    (0, 1, 2, 3),
)
_START = (math.pi / 4, 2.2, 0.0, 0.0, 1.0)
_SHAPE = (3, scene.SIZE, scene.SIZE)


class SceneExplorer(ipywidgets.VBox):
    """Move the factors of a scene: what the renderer draws, and beside it what a model makes of it.

    A VAE is shown the picture itself, and its reconstruction E[x | z = mu(x)] stands beside the truth. A CVAE that is
    told the azimuth a as ``(cos a, sin a)`` is shown the scene from where the explorer starts; the azimuth's slider
    moves the camera, and ``E[x | z = mu(x, start), a]`` stands beside the truth from there. The other sliders change
    the scene that it is shown.

    In Jupyter all sliders move together, and picture and model are computed at each move. A page without a kernel has
    a still for each position of one slider while the others are at the start.

    Args:
        model: a VAE, or a CVAE whose condition is the azimuth's circle, of pictures ``(3, 32, 32)``; or a shipped name.
        factors: where it starts: azimuth, height, blur, hue and kind, as `vaelib.scene.FACTORS` has them; each slider
            starts at its nearest position.

    Raises:
        ValueError: for an unknown name, a model of other pictures or of other conditions, or factors that are no scene.
        TypeError: for what is neither a VAE nor a CVAE.

    Source:
        Chapter 19.
    """

    def __init__(self, model: VAE | CVAE | str, factors: Sequence[float] | Tensor = _START) -> None:
        self._model = pretrained.load(model) if isinstance(model, str) else model
        _check(self._model)
        self._start = _nearest_positions(factors)
        self._sliders = [
            ipywidgets.SelectionSlider(
                options=[(shown, i) for i, shown in enumerate(_shown(k))], index=at, description=each.name
            )
            for k, (each, at) in enumerate(zip(scene.FACTORS, self._start, strict=True))
        ]
        self._picture = ipywidgets.Image(format="png")
        reset = ipywidgets.Button(description="Reset")
        reset.on_click(self._go_home)
        for slider in self._sliders:
            slider.observe(self._show, "value")
        self._show()
        captions = ipywidgets.Label(" | ".join(self.captions))
        super().__init__([self._picture, captions, *self._sliders, reset])

    @property
    def captions(self) -> list[str]:
        """What each of the pictures is, from the left."""
        views = ["shown to the model", "the truth from there", "the model's view"]
        return views if isinstance(self._model, CVAE) else ["the truth", "the model's reconstruction"]

    @property
    def factors(self) -> Tensor:
        """The factors of the present position, ``(5,)``."""
        return _factors([slider.index for slider in self._sliders])

    @torch.no_grad()
    def pictures(self, factors: Tensor | None = None) -> Tensor:
        """Return the pictures for factors, or for the present position, as `captions` names them.

        Shapes:
            ``(N, 5) -> (pictures, N, 3, 32, 32)``, in [0, 1].

        Raises:
            ValueError: for factors that are no scene.
        """
        there = self.factors[None] if factors is None else torch.as_tensor(factors)
        model, like = self._model, first_tensor(self._model)
        truth = scene.render(there)
        with evaluating(model):
            if not isinstance(model, CVAE):
                return torch.stack([truth, model.reconstruct(truth.to(like)).float().cpu().clamp(0, 1)])
            here = there.clone()
            here[:, 0] = _POSITIONS[0][self._start[0]]
            shown = scene.render(here)
            start, asked = (torch.stack([a.cos(), a.sin()], 1).to(like) for a in (here[:, 0], there[:, 0]))
            made = model.mean(model.decode(model.encode(shown.to(like), start).mu, asked))
        return torch.stack([shown, truth, made.float().cpu().clamp(0, 1)])

    def stored(self) -> dict[str, Any]:
        """Return names, positions and stills as JSON can hold them, for a page without a kernel."""
        start = self._start
        places = [[*start[:k], at, *start[k + 1 :]] for k, each in enumerate(_POSITIONS) for at in range(len(each))]
        pictures = self.pictures(torch.stack([_factors(place) for place in places]))
        frames = [_small(row) for row in pictures.unbind(1)]
        return {
            "names": [each.name for each in scene.FACTORS],
            "values": [_shown(k) for k in range(len(_POSITIONS))],
            "start": self._start,
            "frames": [base64.b64encode(frame).decode() for frame in frames],
            "captions": self.captions,  # with these, a slider moves alone
        }

    def save(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Write one HTML file in which the sliders move one at a time, from the start on: no kernel, no network.

        Args:
            path: the file, such as "page.html"; one of that name is replaced, missing folders are made.
            title: stands above the pictures and in the browser's tab.

        Raises:
            ValueError: for a name that does not end in .html or .htm.
            OSError: where the file can't be written; one that was there is untouched.
        """
        places = [f"{scene.FACTORS[k].name} {_shown(k)[at]}" for k, at in enumerate(self._start)]
        alt = f"Pictures of a scene side by side: {', '.join(self.captions)}; at first for {', '.join(places)}."
        _page.write(path, title or "Scene explorer", kind="sliders", state=self.stored(), still=self._still(), alt=alt)

    def __repr__(self) -> str:
        """Return a text without a memory address, which would differ from run to run."""
        return f"SceneExplorer of a {type(self._model).__name__}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Return the live widget, and for where there is no kernel the start as an image, and all stills."""
        png = base64.b64encode(self._still()).decode()
        return {**super()._repr_mimebundle_(**kwargs), "image/png": png, _STORED: self.stored()}

    def _still(self) -> bytes:
        """Return the start as a PNG file."""
        return _png(self.pictures(_factors(self._start)[None])[:, 0])

    def _show(self, _change: object = None) -> None:
        self._picture.value = _png(self.pictures()[:, 0])

    def _go_home(self, _button: object) -> None:
        for slider, at in zip(self._sliders, self._start, strict=True):
            slider.index = at


def _check(model: Any) -> None:
    """Raise an error that names the remedy, unless the model is one of the scene's pictures."""
    if not isinstance(model, VAE | CVAE):
        raise TypeError(f"the model is a {type(model).__name__}: give a VAE, or a CVAE that is told the azimuth")
    if first_tensor(model).dtype in (torch.float16, torch.bfloat16):
        raise ValueError(f"the model is {first_tensor(model).dtype}, too coarse for pixels k / 255: call model.float()")
    if tuple(model.data_shape) != _SHAPE:
        raise ValueError(f"the model is of images {tuple(model.data_shape)}: pictures of the scene are {_SHAPE}")
    if isinstance(model, CVAE) and (model._takes_classes or model.condition_dim != 2):
        given = "classes" if model._takes_classes else f"{model.condition_dim} numbers"
        raise ValueError(
            f"the model's conditions are {given}: a CVAE of the scene is told the azimuth a as two, (cos a, sin a): "
            "train it with condition_dim=2 and y = torch.stack([a.cos(), a.sin()], 1)"
        )


def _nearest_positions(factors: Sequence[float] | Tensor) -> list[int]:
    """Return for each factor the place of its nearest position, the short way round a circle."""
    if any(isinstance(each, str) for each in factors):
        raise ValueError(f"factors are numbers, and these are {factors!r}: a kind is its place in scene.KINDS")
    row = torch.as_tensor(factors, dtype=torch.float64).detach()
    if row.shape != (len(_POSITIONS),):
        names = ", ".join(each.name for each in scene.FACTORS)
        raise ValueError(f"factors have shape {tuple(row.shape)}: give {names}")
    scene.render(row[None])  # it says what is no scene
    places = []
    for value, each, positions in zip(row.tolist(), scene.FACTORS, _POSITIONS, strict=True):
        far = np.abs(np.array(positions) - value)
        if each.circle:
            far = np.mod(far, each.high)
            far = np.minimum(far, each.high - far)
        places.append(int(far.argmin()))
    return places


def _factors(places: list[int]) -> Tensor:
    return torch.tensor([positions[at] for positions, at in zip(_POSITIONS, places, strict=True)])


def _shown(k: int) -> list[str]:
    """Return the positions of a slider as the reader sees them."""
    if scene.FACTORS[k].name == "azimuth":
        return [f"{math.degrees(value):.0f}°" for value in _POSITIONS[k]]
    if scene.FACTORS[k].name == "kind":
        return list(scene.KINDS)
    return [f"{value:.2f}" for value in _POSITIONS[k]]


def _row(pictures: Tensor) -> Image.Image:
    """Return pictures side by side, a grey line between them."""
    line = torch.full((3, scene.SIZE, 1), 0.5)
    parts = [each for picture in pictures for each in (line, picture)][1:]
    return Image.fromarray((torch.cat(parts, 2) * 255).round().byte().movedim(0, -1).contiguous().numpy())


def _small(pictures: Tensor) -> bytes:
    file = io.BytesIO()
    _row(pictures).save(file, "webp", quality=_QUALITY, method=6)
    return file.getvalue()


def _png(pictures: Tensor) -> bytes:
    file, row = io.BytesIO(), _row(pictures)
    row.resize((_LARGER * row.width, _LARGER * row.height), Image.Resampling.NEAREST).save(file, "png")
    return file.getvalue()
