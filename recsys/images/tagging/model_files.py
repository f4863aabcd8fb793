"""Files of weights and labels: downloaded once from an official address and checked, or local."""

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

_TIMEOUT_SECONDS = 60
"""Timeout of a server that sends nothing."""
_PLACES365_LINE = re.compile(r"/\w/(\S+)\s+\d+")


def cache_folder() -> Path:
    """Return the folder of downloaded files: flash-sale-recsys in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flash-sale-recsys"


def fetch_file(url: str, sha256: str | None) -> Path:
    """Return a file of the cache, downloading it the first time; an incomplete download is never stored.

    If no checksum is given, that of the first download is stored beside the file, and the file is refused if it
    changes later.

    Raises:
        ModelError: If it cannot be fetched, or has another checksum.
    """
    path = cache_folder() / url.rsplit("/", 1)[-1]
    checksum_file = path.with_name(path.name + ".sha256")
    if not path.exists():
        _fetch_into_cache(url, path, checksum_file, sha256)
    if sha256 or checksum_file.exists():
        check_hash(path, sha256 or checksum_file.read_text())
    return path


def _fetch_into_cache(url: str, path: Path, checksum_file: Path, sha256: str | None) -> None:
    try:
        with scratch_folder(path.parent) as scratch:
            new = scratch / path.name
            _download(url, new)
            if sha256 and hash_of(new) != sha256:
                raise OSError(f"sha256 == {hash_of(new)}, must be {sha256}")
            write_whole(checksum_file, hash_of(new))
            put_in_place(new, path)
    except (OSError, HTTPException) as error:
        raise ModelError(
            f"{url} cannot be fetched ({error}): try again, or fetch it by hand and name the file in "
            "tagger.weights (or .labels)"
        ) from error


def _download(url: str, path: Path) -> None:
    with urlopen(url, timeout=_TIMEOUT_SECONDS) as answer, path.open("wb") as file:
        shutil.copyfileobj(answer, file)
        expected, received = answer.headers["Content-Length"], file.tell()
    if expected is not None and int(expected) != received:
        raise OSError(f"{received:,} of {int(expected):,} bytes received")


def local_file(path: str, sha256: str | None, key: str) -> Path:
    """Return a local file, checked against a checksum if one is given; `key` is its setting, for error messages.

    Raises:
        ConfigurationError: If it does not exist.
        ModelError: If it has another checksum.
    """
    if not Path(path).is_file():
        raise ConfigurationError(f"tagger.{key} == {path!r}: there is no such file")
    if sha256:
        check_hash(Path(path), sha256)
    return Path(path)


def check_hash(path: Path, sha256: str) -> None:
    """Check a file's content against its checksum.

    Raises:
        ModelError: If it has another checksum.
    """
    actual = hash_of(path)
    if actual != sha256:
        raise ModelError(
            f"{path.name}: sha256 == {actual}, must be {sha256}: remove {path} and fetch it again, or correct "
            "tagger.sha256"
        )


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    status = path.stat()
    return _hash_of(path.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache
def _hash_of(path: Path, size: int, changed: int) -> str:  # noqa: ARG001  size and time are part of the cache key
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_labels(path: Path) -> list[str]:
    """Read one label per line; `/b/beach_house 51`, the format of Places365, becomes `beach house`.

    Raises:
        ConfigurationError: If a line is empty, a label occurs twice, or the file is not UTF-8.
    """
    try:
        labels = [readable(line) for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 ({error}): save the labels as UTF-8") from error
    wrong = [number for number, label in enumerate(labels, start=1) if not label or labels.index(label) < number - 1]
    if wrong or not labels:
        line = wrong[0] if wrong else 1
        raise ConfigurationError(f"{path}: line {line} must hold a label that occurs once: write one label per line")
    return labels


def readable(line: str) -> str:
    """Return a label in readable form, with spaces instead of underscores and slashes."""
    match = _PLACES365_LINE.fullmatch(line.strip())
    return (match[1].replace("/", " ") if match else line.strip()).replace("_", " ")
