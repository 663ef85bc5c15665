"""Warnings that are heard each time: at the line of the reader's that led to them."""

import sys
import warnings

# Whose frames are passed over on the way to the reader's line.
_MACHINERY = {"vaelib", "torch", "contextlib"}


def warn(message: str) -> None:
    """Give a UserWarning, also where the same words were given before.

    Python shows a warning of the same words and line once in a process, and would keep silent about a second model.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _MACHINERY:
        frame = frame.f_back
    place = frame.f_code.co_filename, frame.f_lineno
    warnings.warn_explicit(message, UserWarning, *place, module=frame.f_globals.get("__name__"))
