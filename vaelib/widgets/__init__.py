"""Figures that a reader moves: live in Jupyter, in the plain page and, by ``save``, in an HTML file of their own.

`LatentExplorer` decodes the point that the reader chooses; `Sliders` show a figure for every position that they have;
`SceneExplorer` shows a scene whose factors the reader moves, and beside it what a model makes of it.
A class is imported with what it needs when it is first used: sliders need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaelib.widgets.explorer import LatentExplorer
    from vaelib.widgets.scene import SceneExplorer
    from vaelib.widgets.sliders import Sliders

__all__ = ["LatentExplorer", "SceneExplorer", "Sliders"]
_MODULES = {"LatentExplorer": "explorer", "SceneExplorer": "scene", "Sliders": "sliders"}


def __getattr__(name: str) -> Any:
    """Import a widget on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """List the widgets too, which a session may not have used yet."""
    return sorted({*globals(), *__all__})
