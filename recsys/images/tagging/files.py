"""Reads photos by path or fsspec URL, and detects whether a photo has changed."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fsspec.core import url_to_fs

from recsys.images.settings import ImageSettings
from recsys.images.tagging.decoding import PhotoError


@dataclass(frozen=True)
class PhotoFiles:
    """Location of photos and how to read them."""

    root: str = ""
    """Base of relative paths: a folder or an fsspec URL; the working directory by default."""
    storage_options: dict[str, str] = field(default_factory=dict)
    max_megabytes: float = 100.0

    @classmethod
    def of(cls, settings: ImageSettings) -> "PhotoFiles":
        """Return the location of a shop's photos."""
        return cls(settings.root, dict(settings.storage_options), settings.tagging.max_megabytes)

    def absolute(self, uri: str) -> str:
        """Return the absolute path or URL, which is valid in every process on every machine that has the files."""
        if "://" in uri or Path(uri).is_absolute():
            return uri
        if "://" in self.root:
            return f"{self.root.rstrip('/')}/{uri}"
        return str((Path(self.root) / uri).resolve())

    def stamp(self, uri: str) -> str:
        """Return a string that changes with the file: of its size, times and ETag; of an http URL, only of the URL.

        Raises:
            PhotoError: If the file does not exist.
        """
        try:
            if "://" not in uri:
                status = Path(uri).stat()  # fsspec rounds times to a fifth of a microsecond
                return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
            file_system, path = url_to_fs(uri, **self.storage_options)
            return str(file_system.ukey(path))
        except Exception as error:  # each file system raises its own kinds of errors
            raise _missing_error(uri, error) from error

    def read(self, uri: str) -> bytes:
        """Return the file's content.

        Raises:
            PhotoError: If the file does not exist, or is larger than allowed.
        """
        limit = int(self.max_megabytes * 1e6)
        try:
            with self._open(uri) as file:
                data = _read_at_most(limit + 1, file)
        except Exception as error:
            raise _missing_error(uri, error) from error
        if len(data) > limit:
            raise PhotoError("too_large", f"more than {self.max_megabytes:g} megabytes")
        return data

    def _open(self, uri: str) -> IO[bytes]:
        if "://" not in uri:
            return Path(uri).open("rb")
        file_system, path = url_to_fs(uri, **self.storage_options)
        return file_system.open(path, "rb", block_size=0)  # 0: streamed as a whole, without asking for its size first


def content_hash(data: bytes) -> str:
    """Return the hash that identifies a photo's content: the first half of its SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()[:32]


def _read_at_most(limit: int, file: IO[bytes]) -> bytes:
    """Read at most `limit` bytes; several reads are needed because a file over HTTP may return fewer than asked for."""
    pieces, left = [], limit
    while left and (piece := file.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _missing_error(uri: str, error: Exception) -> PhotoError:
    return PhotoError("missing", f"{uri}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"[:300])
