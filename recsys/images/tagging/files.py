"""Reads photos by path or fsspec URL, and tells whether one has changed."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fsspec.core import url_to_fs

from recsys.images.settings import ImageSettings
from recsys.images.tagging.decoding import PhotoError


@dataclass(frozen=True)
class PhotoFiles:
    """Where photos lie."""

    root: str = ""
    """Relative paths are relative to it: a folder or an fsspec URL; the working directory by default."""
    storage_options: dict[str, str] = field(default_factory=dict)
    max_megabytes: float = 100.0

    @classmethod
    def of(cls, settings: ImageSettings) -> "PhotoFiles":
        """Return where a shop's photos lie."""
        return cls(settings.root, dict(settings.storage_options), settings.tagging.max_megabytes)

    def absolute(self, uri: str) -> str:
        """Return a URI that means the same in every process on every machine that sees the files."""
        if "://" in uri or Path(uri).is_absolute():
            return uri
        if "://" in self.root:
            return f"{self.root.rstrip('/')}/{uri}"
        return str((Path(self.root) / uri).resolve())

    def stamp(self, uri: str) -> str:
        """Return what changes when the file does: of its size, times and server's tag; an http URL is its own stamp.

        Raises:
            PhotoError: If there is no such file.
        """
        try:
            if "://" not in uri:
                status = Path(uri).stat()  # fsspec's own rounds times to a fifth of a microsecond
                return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
            file_system, path = url_to_fs(uri, **self.storage_options)
            return str(file_system.ukey(path))
        except Exception as error:  # file systems raise errors of their own
            raise _missing(uri, error) from error

    def read(self, uri: str) -> bytes:
        """Return the file's content.

        Raises:
            PhotoError: If there is no such file, or it is larger than allowed.
        """
        limit = int(self.max_megabytes * 1e6)
        try:
            with self._open(uri) as file:
                data = _at_most(limit + 1, file)
        except Exception as error:
            raise _missing(uri, error) from error
        if len(data) > limit:
            raise PhotoError("too_large", f"more than {self.max_megabytes:g} megabytes")
        return data

    def _open(self, uri: str) -> IO[bytes]:
        if "://" not in uri:
            return Path(uri).open("rb")
        file_system, path = url_to_fs(uri, **self.storage_options)
        return file_system.open(path, "rb", block_size=0)  # 0: in one piece, without looking at its size first


def content_hash(data: bytes) -> str:
    """Return the name of a photo's content: half of its SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()[:32]


def _at_most(limit: int, file: IO[bytes]) -> bytes:
    """Read a whole file, or its first bytes; a file over HTTP gives what has come so far, however much is asked for."""
    pieces, left = [], limit
    while left and (piece := file.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _missing(uri: str, error: Exception) -> PhotoError:
    return PhotoError("missing", f"{uri}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"[:300])
