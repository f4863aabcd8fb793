"""The library of the engine. `from recsys import Shop` is the Python API for notebooks, of package `workbench`."""

from importlib import import_module
from typing import Any

__all__ = ["Shop"]


def __getattr__(name: str) -> Any:
    """Return what users import from here; at the first use, since the library itself depends on none of it."""
    if name in __all__:
        return getattr(import_module("workbench"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
