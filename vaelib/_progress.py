"""Whether somebody is watching, and where a progress bar goes."""

import sys
from typing import TextIO

__all__ = ["in_notebook", "is_watched", "stream"]


def in_notebook() -> bool:
    """Return whether output goes to a notebook."""
    ipython = sys.modules.get("IPython")  # imported already where this is a notebook
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def is_watched() -> bool:
    """Return whether somebody may look at a progress bar: in a terminal or in a notebook."""
    return in_notebook() or (sys.stderr is not None and sys.stderr.isatty())


def stream() -> TextIO:
    """Return where the bar of a long computation goes.

    In a notebook standard error looks like an error; in a terminal it keeps standard output clean.
    """
    return sys.stdout if in_notebook() else sys.stderr
