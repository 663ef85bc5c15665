"""The old name of `vaelib.widgets`, which warns: it goes with the next release."""

import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaelib.widgets import LatentExplorer

__all__ = ["LatentExplorer"]


def __getattr__(name: str) -> Any:
    """Return the widget, and tell whoever asked for it the new name."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vaelib import widgets

    widget = getattr(widgets, name)
    # On behalf of the line that asks: Python and IPython show the warning where that is the reader's own.
    warnings.warn(
        f"{__name__} is now vaelib.widgets: write `from vaelib.widgets import {name}`; the old name goes with the next "
        "release",
        DeprecationWarning,
        stacklevel=2,
    )
    if sys._getframe(1).f_globals.get("__name__") == "__main__":
        globals()[name] = widget  # the reader has seen it: once a session is enough
    return widget
