"""The imports of the project's files, parsed from their source."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.helpers.paths import ROOT

PACKAGES = ("cli", "console", "demo_shop", "jobs", "recsys", "serving", "workbench")
SOURCES = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Return the full names of all modules and objects that a file imports, including imports in functions."""
    return tuple(_imports(path))


@cache
def loaded(path: Path) -> frozenset[str]:
    """Return the full names of all that importing a file imports, without what only its functions import."""
    found: set[str] = set()
    to_do = [path]
    seen = set(to_do)
    while to_do:
        names = [name for node in ast.parse((ROOT / to_do.pop()).read_text()).body for name in _names(node)]
        found.update(names)
        files = {file for name in names if (file := _file_of(name))} - seen
        to_do += files
        seen |= files
    return frozenset(found)


def calls(path: Path) -> list[ast.Call]:
    """Return all calls in a file."""
    return [node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.Call)]


def importers(module: str, package: str = "") -> set[Path]:
    """Return the files of a package that import a module or anything in it."""
    return {
        path
        for path in SOURCES
        if path.is_relative_to(package or ".")
        and any(name == module or name.startswith(f"{module}.") for name in imports(path))
    }


def imported_files(path: Path) -> set[Path]:
    """Return the project's files that a file imports."""
    return {file for name in imports(path) if (file := _file_of(name))} - {path}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        assert not isinstance(node, ast.ImportFrom) or node.level == 0, f"{path} imports relatively"
        yield from _names(node)


def _names(node: ast.AST) -> list[str]:
    """Return the full names that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _file_of(name: str) -> Path | None:
    """Return the project's file that defines a module or name, or None if it is not in the project."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = Path(*parts[:length])
        for file in (module.with_suffix(".py"), module / "__init__.py"):
            if file in _KNOWN:
                return file
    return None


_KNOWN = set(SOURCES)
