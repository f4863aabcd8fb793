"""Imports point one way, between the packages and between the folders in them."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.helpers.import_graph import SOURCES, calls, imported_files, importers, loaded
from tests.helpers.paths import ROOT

COMMANDS = Path("cli/commands")


@pytest.mark.parametrize(
    ("package", "others"),
    [
        ("recsys", ("cli", "console", "jobs", "serving", "demo_shop", "workbench")),
        ("jobs", ("cli", "console", "serving", "workbench")),
        ("serving", ("cli", "console", "jobs", "demo_shop", "workbench")),
        ("console", ("cli", "demo_shop", "workbench")),
        ("workbench", ("cli", "console", "demo_shop")),
        ("demo_shop", ("cli", "console", "jobs", "serving", "workbench")),
    ],
)
def test_packages_import_one_way(package, others):
    for other in others:
        assert importers(other, package) == set(), other


def test_console_asks_the_service_through_its_client_and_runs_its_checks_and_trials():
    used = {file for path in importers("serving", "console") for file in imported_files(path)}
    names = ("client.py", "diagnosis/doctor.py", "answers/rules_trial.py")
    asked = {Path("serving", name) for name in names}
    assert {file for file in used if file.is_relative_to("serving")} <= asked


def test_console_asks_the_registry_of_models_and_no_other_job():
    used = {file.parent for path in importers("jobs", "console") for file in imported_files(path)}
    assert {folder for folder in used if folder.is_relative_to("jobs")} == {Path("jobs/registry")}


def test_console_starts_without_spark_and_learning_libraries():
    slow = {"pyspark", "torch", "mlflow", "sklearn", "matplotlib", "django", "pandas"}
    assert {name.partition(".")[0] for name in loaded(Path("console/shop_console.py"))} & slow == set()


def test_imports_between_folders_have_no_circles():
    folders: dict[str, set[str]] = {}
    for path in SOURCES:
        others = {str(file.parent) for file in imported_files(path)} - {str(path.parent)}
        folders.setdefault(str(path.parent), set()).update(others)
    assert len(tuple(TopologicalSorter(folders).static_order())) == len(folders)  # raises CycleError


def test_imports_between_files_have_no_circles():
    assert set(TopologicalSorter({path: imported_files(path) for path in SOURCES}).static_order()) == set(SOURCES)


def test_night_does_not_depend_on_the_demo_shop():
    assert {path.parent for path in importers("demo_shop", "jobs")} == {Path("jobs/backtest")}


def test_service_imports_neither_spark_nor_training_libraries():
    for module in ("pyspark", "mlflow", "torch", "sklearn", "pandas", "recsys.pipeline", "recsys.tables"):
        assert importers(module, "serving") == set(), module


def test_workers_of_spark_start_without_slow_libraries():
    sent = [path for path in importers("pyspark", "recsys") if "InArrow(" in (ROOT / path).read_text()]
    assert len(sent) > 5
    for path in sent:
        slow = {name.partition(".")[0] for name in loaded(path)} & {
            "sklearn",
            "aiohttp",
            "torch",
            "mlflow",
            "matplotlib",
        }
        assert slow == set(), path


def test_one_file_builds_a_spark_session():
    assert {path for path in SOURCES if "SparkSession.builder" in (ROOT / path).read_text()} == {
        Path("jobs/engine/session.py")
    }


def test_one_folder_talks_to_mlflow():
    assert {path.parent for path in importers("mlflow")} == {Path("jobs/registry")}


def test_everything_that_is_printed_goes_through_the_console_that_prints_text():
    assert importers("rich") == {Path("recsys/console.py")}
    raw = ("print", "Line", "typer.echo", "click.echo", "typer.secho", "sys.stdout.write", "sys.stderr.write")
    found = [(path, call) for path in SOURCES for call in calls(path) if ast.unparse(call.func) in raw]
    exits = [(path, call) for path in SOURCES for call in calls(path) if ast.unparse(call.func) == "sys.exit"]
    found += [(path, call) for path, call in exits if not isinstance(call.args[0], ast.Constant)]  # prints a text
    assert [f"{path}:{call.lineno} {ast.unparse(call)}" for path, call in found] == []


def test_library_reads_no_clock_and_no_network():
    # It ends the reading of a photo from a slow server.
    assert importers("time", "recsys") == {Path("recsys/images/tagging/files.py")}
    for module in ("socket", "requests", "grpc"):
        assert importers(module, "recsys") == set(), module
    # It fetches a tagger's weights, once.
    assert importers("urllib.request", "recsys") == {Path("recsys/images/tagging/model_files.py")}
    assert [path for path in SOURCES if path.is_relative_to("recsys") and ".now(" in (ROOT / path).read_text()] == []


def test_one_file_locks_and_syncs():
    room, log_files = Path("recsys/storage/local.py"), Path("recsys/logs/log_files.py")
    assert imported_files(room) == {Path("recsys/errors.py")}
    assert importers("filelock") == {room}
    # The writer of a log file keeps it locked, and workers theirs, for as long as it is open.
    assert importers("fcntl") == {log_files, Path("serving/process/workers.py")}
    assert {path for path in SOURCES if "os.fsync(" in (ROOT / path).read_text()} == {room, log_files}


def test_spark_is_used_through_frames_alone():
    start = Path("jobs/engine/session.py")  # reads what spark-submit told its Java process
    for path in set(SOURCES) - {start}:
        text = (ROOT / path).read_text()
        assert not [word for word in ("_jvm", "_jsc", ".rdd", "sparkContext", "_jdf") if word in text], path


def test_importing_a_command_starts_nothing():
    for path in (ROOT / COMMANDS).rglob("*.py"):
        at_the_top = {name for node in ast.parse(path.read_text()).body for name in _names(node)}
        assert not {name.split(".")[0] for name in at_the_top} & {"console", "jobs", "serving", "pyspark", "mlflow"}, (
            path
        )


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [str(node.module)] if isinstance(node, ast.ImportFrom) else []
