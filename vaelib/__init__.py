"""The tested code of the book: perceptron, autoencoder, variational autoencoder and what trains and draws them.

Nothing is imported until it is used, so that `import vaelib` costs nothing and the perceptron needs NumPy alone.
The modules form floors and import downwards only; `bookbuild/house.py` in the repository holds the list.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a module of the package on first use, so that `vaelib.data.load` works after `import vaelib`.

    `vaelib.diagnose` is the function of `vaelib.diagnosis`, the one that is asked for at the prompt.
    """
    if name == "diagnose":
        return import_module("vaelib.diagnosis").diagnose
    if not name.startswith("_"):
        try:
            return import_module(f"vaelib.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"vaelib.{name}":
                raise
    raise AttributeError(f"module 'vaelib' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public modules too, imported or not, so that completion finds them."""
    from pkgutil import iter_modules

    modules = {module.name for module in iter_modules(__path__)} - {"explorer", "sliders"}  # which warn, and go
    return sorted(globals().keys() | {"diagnose"} | {name for name in modules if not name.startswith("_")})
