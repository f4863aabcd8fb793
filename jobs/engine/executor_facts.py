"""What a Spark executor has and sees.

Imports the standard library alone, unless the folder is a URL: an executor may have nothing else.
"""

import hashlib
import os
import platform
import socket
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

NEEDED = ("lightgbm", "numba", "numpy", "pandas", "pyarrow", "pydantic", "scikit-learn", "scipy", "universal-pathlib")
"""Packages that the steps need in Spark's workers."""
PROJECT = ("demo_shop", "jobs", "recsys")
TOKEN = "token"
"""File that the driver writes and each executor reads."""


class Facts(NamedTuple):
    """What one executor has and sees."""

    host: str
    executor: str
    """Name of the executor's file, different for each executor."""
    python: str
    """Version and path of the interpreter."""
    packages: dict[str, str]
    """Version of each of NEEDED; empty for one that is not installed."""
    code: str
    """Digest of the project's code."""
    problem: str
    """Why the folder cannot be read or written; empty if it can."""


def facts(folder: str, token: str) -> Facts:
    """Return what this process has, after reading the driver's token in a folder and writing it back."""
    executor = f"{socket.gethostname()}-{_parent_of(os.getppid())}"
    problem = ""
    try:
        where = _place(folder)
        if (found := (where / TOKEN).read_text()) != token:
            problem = f"it holds another token, {found[:20]!r}"
        (where / executor).write_text(token)
    except Exception as error:  # of whichever library the store has, or of one that is missing here
        problem = str(error) or type(error).__name__
    python = f"Python {platform.python_version()} at {sys.executable}"
    return Facts(socket.gethostname(), executor, python, packages(), digest_of_code(), problem)


def _place(folder: str) -> Any:
    """Return a folder as its URL says; one in an object store takes libraries."""
    if "://" not in folder:
        return Path(folder)
    from recsys.storage.places import place

    return place(folder)


def packages() -> dict[str, str]:
    """Return the installed version of each of NEEDED."""
    return {name: _version(name) for name in NEEDED}


def digest_of_code() -> str:
    """Return a digest of the project's modules and queries, in folders or in a zip file."""
    digest = hashlib.sha256()
    for package in PROJECT:
        try:
            _add_files(digest, files(package))
        except ModuleNotFoundError:
            digest.update(b"missing")
    return digest.hexdigest()[:16]


def _add_files(digest: "hashlib._Hash", folder: Traversable) -> None:
    for each in sorted(folder.iterdir(), key=lambda file: file.name):
        if each.name.endswith((".py", ".sql")):
            digest.update(each.name.encode() + each.read_bytes())
        elif each.is_dir():
            _add_files(digest, each)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _parent_of(process: int) -> str:
    """Return the parent of a process, where the system tells; Spark's Java process is that of the one that forks."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]
    except OSError:
        return str(process)
