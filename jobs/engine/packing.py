"""The project's code as one zip file, for machines that have no checkout: Spark's workers, or a driver elsewhere."""

import atexit
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import jobs

PACKAGES = ("cli", "console", "demo_shop", "jobs", "recommendations", "recsys", "serving", "workbench")


def write_zip(path: Path) -> None:
    """Write the project's packages with their data files into a zip file that Python can import from.

    The same code gives the same bytes.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in PACKAGES:
            for name, file in sorted(_files(files(package), package)):
                archive.writestr(zipfile.ZipInfo(name), file.read_bytes(), zipfile.ZIP_DEFLATED)


def travelling_code() -> list[str]:
    """Write the code that Spark's workers are to be given, and return its files; removed when this process ends.

    None if it is in a zip file already: then spark-submit was given that file, and gives it to the workers.
    """
    if not Path(jobs.__path__[0]).is_dir():
        return []
    folder = tempfile.mkdtemp(prefix="recsys-code-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_zip(path := Path(folder) / "recsys.zip")
    return [str(path)]


def _files(folder: Traversable, name: str) -> Iterator[tuple[str, Traversable]]:
    for each in folder.iterdir():
        if each.is_file() and not each.name.endswith((".pyc", ".nbi", ".nbc")):
            yield f"{name}/{each.name}", each
        elif each.is_dir() and each.name != "__pycache__":
            yield from _files(each, f"{name}/{each.name}")
