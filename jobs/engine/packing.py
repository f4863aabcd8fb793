"""The project's code as one zip file, for machines that have no checkout: Spark's workers, or a driver elsewhere."""

import atexit
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import jobs

JOB = '''"""Runs a module of recsys.zip under spark-submit: job.py MODULE [ARGUMENTS]."""

import runpy
import sys

del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
'''
"""Script for spark-submit, which runs files and no modules."""
PACKAGES = ("cli", "console", "demo_shop", "jobs", "recommendations", "recsys", "serving", "workbench")


def write_zip(path: Path) -> None:
    """Write the project's packages with their data files into a zip file that Python can import from.

    The same code gives the same bytes.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in PACKAGES:
            for name, file in sorted(_files(files(package), package)):
                archive.writestr(zipfile.ZipInfo(name), file.read_bytes(), zipfile.ZIP_DEFLATED)


def pack(folder: Path) -> list[Path]:
    """Write what a machine without a checkout needs to submit jobs into a folder, and return the files.

    They are recsys.zip for `--py-files`, job.py, which runs a module of it, and requirements.txt with the version of
    every installed package that the project needs, for the machines of the cluster.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / name for name in ("recsys.zip", "job.py", "requirements.txt")]
    write_zip(written[0])
    written[1].write_text(JOB)
    written[2].write_text("".join(f"{line}\n" for line in installed_requirements()))
    return written


def installed_requirements(of: str = "flash-sale-recsys") -> list[str]:
    """Return name==version of each installed package that a package needs, directly or not, by name."""
    found: dict[str, str] = {}
    unvisited = [of]
    while unvisited:
        name = canonicalize_name(unvisited.pop())
        if name in found:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:  # of another system or version of Python
            continue
        found[name] = f"{name}=={package.version.partition('+')[0]}"
        needed = map(Requirement, package.requires or ())
        unvisited += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    del found[of]
    return sorted(found.values())


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
        elif each.is_dir():
            yield from _files(each, f"{name}/{each.name}")
