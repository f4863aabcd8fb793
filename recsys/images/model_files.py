"""Files of weights and labels: fetched once from an official address with a checksum, or local."""

import hashlib
import os
import re
from pathlib import Path

from recsys.errors import ConfigurationError, ModelError

_PLACE = re.compile(r"^/\w/|\s+\d+$")


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
        import torch

        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256)
        except (OSError, RuntimeError) as error:
            raise ModelError(
                f"{url} cannot be fetched ({error}): try again, or fetch it by hand and name the file in "
                "images.tagger.weights (or .labels)"
            ) from error
        seal.write_text(hash_of(path))
    check_hash(path, sha256 or (seal.read_text() if seal.exists() else hash_of(path)))
    return path


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
            f"{path}: sha256 == {found}, must be {sha256}: remove it and fetch it again, or correct sha256"
        )


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_labels(path: Path) -> list[str]:
    """Read one label a line; `/b/beach_house 51`, as Places365 lists them, becomes `beach house`.

    Raises:
        ConfigurationError: If a line is empty or a label stands twice.
    """
    labels = [readable(line) for line in path.read_text("utf-8").splitlines()]
    wrong = [number for number, label in enumerate(labels, start=1) if not label or labels.index(label) < number - 1]
    if wrong or not labels:
        line = wrong[0] if wrong else 1
        raise ConfigurationError(f"{path}: line {line} must hold a label that stands once: one label a line")
    return labels


def readable(line: str) -> str:
    """Return a label as people write it."""
    return _PLACE.sub("", line.strip()).replace("_", " ").replace("/", " ").strip()
