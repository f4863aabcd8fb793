"""Imports point one way: jobs → recsys ← serving; the command alone starts either."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = Path("recsys/commands")
SOURCES = [
    path.relative_to(ROOT) for package in ("jobs", "recsys", "serving") for path in (ROOT / package).rglob("*.py")
]


def imports(path: Path) -> Iterator[str]:
    """Name every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(module: str, package: str = "") -> set[Path]:
    """The files of a package that import a module or something in it."""
    return {
        path
        for path in SOURCES
        if path.is_relative_to(package or ".")
        and any(name == module or name.startswith(f"{module}.") for name in imports(path))
    }


@pytest.mark.parametrize(
    ("package", "module"), [("recsys", "jobs"), ("recsys", "serving"), ("jobs", "serving"), ("serving", "jobs")]
)
def test_packages_import_one_way(package, module):
    assert {path for path in importers(module, package) if not path.is_relative_to(COMMANDS)} == set()


def test_commands_are_the_one_place_that_starts_either():
    for module in ("jobs", "serving"):
        starters = importers(module, "recsys")
        assert starters
        assert all(path.is_relative_to(COMMANDS) for path in starters)


def test_service_imports_neither_spark_nor_what_trains():
    for module in ("pyspark", "mlflow", "torch", "sklearn", "pandas", "recsys.pipeline", "recsys.tables"):
        assert importers(module, "serving") == set(), module


def test_one_file_builds_a_spark_session():
    assert {path for path in SOURCES if "SparkSession.builder" in (ROOT / path).read_text()} == {
        Path("jobs/session.py")
    }


def test_one_file_talks_to_mlflow():
    assert importers("mlflow") == {Path("jobs/tracking.py")}


def test_library_reads_no_clock_and_no_network():
    for module in ("time", "socket", "requests", "grpc"):
        assert importers(module, "recsys") == set(), module
    assert importers("urllib", "recsys") == {Path("recsys/images/model_files.py")}  # fetches a tagger's weights, once
    clocks = {path for path in SOURCES if path.is_relative_to("recsys") and ".now(" in (ROOT / path).read_text()}
    assert all(path.is_relative_to(COMMANDS) for path in clocks)


def test_spark_is_used_through_frames_alone():
    for path in SOURCES:
        text = (ROOT / path).read_text()
        assert not [word for word in ("_jvm", "_jsc", ".rdd", "sparkContext", "_jdf") if word in text], path


def test_importing_a_command_starts_nothing():
    for path in (ROOT / COMMANDS).glob("*.py"):
        at_the_top = {name for node in ast.parse(path.read_text()).body for name in _names(node)}
        assert not {name.split(".")[0] for name in at_the_top} & {"jobs", "serving", "pyspark", "mlflow"}, path


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [str(node.module)] if isinstance(node, ast.ImportFrom) else []
