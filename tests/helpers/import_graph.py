"""What the project's files import, read from their text."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.helpers.paths import ROOT

PACKAGES = ("cli", "demo_shop", "jobs", "recsys", "serving")
SOURCES = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Name every module that a file imports, inside functions too, and what it imports from them."""
    return tuple(_imports(path))


def importers(module: str, package: str = "") -> set[Path]:
    """Return the files of a package that import a module or something in it."""
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
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _file_of(name: str) -> Path | None:
    """Return the file of a module, or of the module that a name is imported from; None where it is not ours."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        place = Path(*parts[:length])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file in _KNOWN:
                return file
    return None


_KNOWN = set(SOURCES)
