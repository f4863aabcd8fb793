"""Files of weights and labels: fetched once from an official address with a checksum, or local."""

import hashlib
import os
import re
import shutil
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from recsys.errors import ConfigurationError, ModelError
from recsys.storage.local import put_in_place, scratch_folder, write_whole

_SILENCE = 60
"""A server that says nothing for so many seconds is given up."""
_PLACE = re.compile(r"/\w/(\S+)\s+\d+")


def cache_folder() -> Path:
    """Return where fetched files are kept: flash-sale-recsys in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flash-sale-recsys"


def fetched(url: str, sha256: str | None) -> Path:
    """Return a file of the cache, fetched from its address the first time; half a file is never left.

    Where no checksum is known, the first file's own is kept beside it, and a later change is refused.

    Raises:
        ModelError: If it cannot be fetched, or hashes to something else.
    """
    path = cache_folder() / url.rsplit("/", 1)[-1]
    seal = path.with_name(path.name + ".sha256")
    if not path.exists():
        _fetch(url, path, seal, sha256)
    if sha256 or seal.exists():
        check_hash(path, sha256 or seal.read_text())
    return path


def _fetch(url: str, path: Path, seal: Path, sha256: str | None) -> None:
    try:
        with scratch_folder(path.parent) as scratch:
            new = scratch / path.name
            _download(url, new)
            if sha256 and hash_of(new) != sha256:
                raise OSError(f"sha256 == {hash_of(new)}, must be {sha256}")
            write_whole(seal, hash_of(new))
            put_in_place(new, path)
    except (OSError, HTTPException) as error:
        raise ModelError(
            f"{url} cannot be fetched ({error}): try again, or fetch it by hand and name the file in "
            "images.tagger.weights (or .labels)"
        ) from error


def _download(url: str, path: Path) -> None:
    with urlopen(url, timeout=_SILENCE) as answer, path.open("wb") as file:
        shutil.copyfileobj(answer, file)
        promised, came = answer.headers["Content-Length"], file.tell()
    if promised is not None and int(promised) != came:
        raise OSError(f"{came:,} of {int(promised):,} bytes came")


def local(path: str, sha256: str | None, key: str) -> Path:
    """Return a local file.

    Raises:
        ConfigurationError: If it is not there.
        ModelError: If it hashes to something else.
    """
    if not Path(path).is_file():
        raise ConfigurationError(f"images.tagger.{key} == {path!r}: there is no such file")
    if sha256:
        check_hash(Path(path), sha256)
    return Path(path)


def check_hash(path: Path, sha256: str) -> None:
    """Check a file's content.

    Raises:
        ModelError: If it hashes to something else.
    """
    found = hash_of(path)
    if found != sha256:
        raise ModelError(
            f"{path.name}: sha256 == {found}, must be {sha256}: remove {path} and fetch it again, or correct "
            "images.tagger.sha256"
        )


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    status = path.stat()
    return _hash_of(path.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache
def _hash_of(path: Path, size: int, changed: int) -> str:  # noqa: ARG001  a file that changes is another one
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_labels(path: Path) -> list[str]:
    """Read one label a line; `/b/beach_house 51`, as Places365 lists them, becomes `beach house`.

    Raises:
        ConfigurationError: If a line is empty, a label stands twice, or the file is not UTF-8.
    """
    try:
        labels = [readable(line) for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 ({error}): save the labels as UTF-8") from error
    wrong = [number for number, label in enumerate(labels, start=1) if not label or labels.index(label) < number - 1]
    if wrong or not labels:
        line = wrong[0] if wrong else 1
        raise ConfigurationError(f"{path}: line {line} must hold a label that stands once: one label a line")
    return labels


def readable(line: str) -> str:
    """Return a label as people write it."""
    place = _PLACE.fullmatch(line.strip())
    return (place[1].replace("/", " ") if place else line.strip()).replace("_", " ")
