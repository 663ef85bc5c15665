"""Sliders for a figure that a cell computes: live in Jupyter, and with a still for each position in a plain page."""

import base64
import io
import itertools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
import matplotlib.figure
import matplotlib.pyplot as plt
from PIL import Image

from vaelib.widgets import _page

_STORED = "application/vnd.vaelib.frames+json"
_MOST = 100  # stills of 3 to 6 kB each


class Sliders(ipywidgets.VBox):
    """Show ``draw(**position)`` at every position of some sliders.

    A still of each is drawn once, in advance: Jupyter, the plain page and the file that `save` writes show the same
    ones.

    Args:
        draw: returns the Figure for one value of each name; the figure is closed afterwards.
        start: the first position, where Reset returns to. Default: the first value of each.
        values: the positions of each slider, by name.

    Raises:
        ValueError: for a slider without values, a start that is no position, or more than 100 positions in all.
        TypeError: for a `draw` that returns no Figure.
    """

    def __init__(
        self,
        draw: Callable[..., matplotlib.figure.Figure],
        start: dict[str, Any] | None = None,
        **values: Sequence[Any],
    ) -> None:
        _check(values, start or {})
        self._values = {name: list(each) for name, each in values.items()}
        home = {name: each[0] for name, each in self._values.items()} | (start or {})
        self._start = [self._values[name].index(home[name]) for name in self._values]
        places = itertools.product(*self._values.values())
        self._frames = [_few_colours(draw(**dict(zip(self._values, place, strict=True)))) for place in places]
        self._sliders = [
            ipywidgets.SelectionSlider(
                options=[(f"{value:g}", i) for i, value in enumerate(each)], index=at, description=name
            )
            for (name, each), at in zip(self._values.items(), self._start, strict=True)
        ]
        self._picture = ipywidgets.Image(format="webp")
        reset = ipywidgets.Button(description="Reset")
        reset.on_click(self._go_home)
        for slider in self._sliders:
            slider.observe(self._show, "value")
        self._show()
        super().__init__([self._picture, *self._sliders, *self._player(), reset])

    def frame(self) -> bytes:
        """Return the WebP file of the present position."""
        return self._frames[_rank([slider.value for slider in self._sliders], self._values)]

    def _show(self, _change: object = None) -> None:
        self._picture.value = self.frame()

    def _go_home(self, _button: object) -> None:
        for slider, at in zip(self._sliders, self._start, strict=True):
            slider.index = at

    def _player(self) -> list[ipywidgets.Widget]:
        """Return a button that plays a single slider from its first value to its last."""
        if len(self._sliders) > 1:
            return []
        (slider,) = self._sliders
        play = ipywidgets.Play(min=0, max=len(self._frames) - 1, interval=400)
        ipywidgets.jslink((play, "value"), (slider, "index"))
        return [play]

    def stored(self) -> dict[str, Any]:
        """Return names, positions and stills as JSON can hold them, for a page without a kernel."""
        return {
            "names": list(self._values),
            "values": [[f"{value:g}" for value in each] for each in self._values.values()],
            "start": self._start,
            "frames": [base64.b64encode(frame).decode() for frame in self._frames],
        }

    def save(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Write one HTML file in which the sliders move, from the start on: no kernel, no network.

        Args:
            path: the file, such as "page.html"; one of that name is replaced, missing folders are made.
            title: stands above the figure and in the browser's tab.

        Raises:
            ValueError: for a name that does not end in .html or .htm.
            OSError: where the file can't be written; one that was there is untouched.
        """
        places = [f"{name} = {each[at]:g}" for (name, each), at in zip(self._values.items(), self._start, strict=True)]
        _page.write(
            path,
            title or f"A figure with {'a slider' if len(places) == 1 else 'sliders'} for {', '.join(self._values)}",
            kind="sliders",
            state=self.stored(),
            still=self._still(),
            alt=f"A figure that the sliders change, at first for {', '.join(places)}.",
        )

    def __repr__(self) -> str:
        """Return a text without a memory address, which would differ from run to run."""
        return f"Sliders for {', '.join(self._values)}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Return the live widget, and for where there is no kernel the start as an image, and all stills."""
        png = base64.b64encode(self._still()).decode()
        return {**super()._repr_mimebundle_(**kwargs), "image/png": png, _STORED: self.stored()}

    def _still(self) -> bytes:
        """Return the start as a PNG file."""
        still = io.BytesIO()
        Image.open(io.BytesIO(self._frames[_rank(self._start, self._values)])).save(still, "png")
        return still.getvalue()


def _check(values: dict[str, Sequence[Any]], start: dict[str, Any]) -> None:
    if not values or not all(len(each) for each in values.values()):
        raise ValueError("a slider needs values: name=[...] with at least one")
    for name, value in start.items():
        if name not in values or value not in list(values[name]):
            raise ValueError(f"start has {name} = {value!r}, which is no position of a slider")
    positions = math.prod(len(each) for each in values.values())
    if positions > _MOST:
        raise ValueError(f"{positions} positions are {positions} stills: at most {_MOST}, or the page becomes heavy")


def _rank(at: list[int], values: dict[str, list[Any]]) -> int:
    """Return the place among the frames; the last slider moves fastest."""
    rank = 0
    for i, each in zip(at, values.values(), strict=True):
        rank = rank * len(each) + i
    return rank


def _few_colours(figure: matplotlib.figure.Figure) -> bytes:
    """Return the figure as a WebP file of 16 colours, without loss beyond that, and close it."""
    if not isinstance(figure, matplotlib.figure.Figure):
        raise TypeError(
            f"the function of the sliders returned {figure!r:.60}: let it end in 'return figure', for Axes in "
            "'return axes.figure', or without either in 'return plt.gcf()'"
        )
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    plt.close(figure)
    small = io.BytesIO()
    few = Image.open(file).convert("RGB").quantize(16, dither=Image.Dither.NONE)
    few.convert("RGB").save(small, "webp", lossless=True, quality=100, method=6)
    return small.getvalue()
