"""Reads photos by path or fsspec URL, and detects whether a photo has changed."""

import hashlib
import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urljoin

from fsspec.core import url_to_fs

from recsys.images.settings import ImageSettings
from recsys.images.tagging.decoding import PhotoError

_MAX_REDIRECTS = 3


@dataclass(frozen=True)
class PhotoFiles:
    """Location of photos and how to read them."""

    root: str = ""
    """Base of relative paths: a folder or an fsspec URL; the working directory by default."""
    storage_options: dict[str, str] = field(default_factory=dict)
    max_megabytes: float = 100.0
    max_seconds: float = 30.0
    """Maximum time to read a photo from a server."""
    below_root: bool = True
    """Whether only photos below the root are read: addresses of a shop's data are not to be trusted."""

    @classmethod
    def of(cls, settings: ImageSettings, below_root: bool = True) -> "PhotoFiles":
        """Return the location of a shop's photos."""
        limits = settings.tagging.max_megabytes, settings.tagging.max_seconds
        return cls(settings.root, dict(settings.storage_options), *limits, below_root)

    def absolute(self, uri: str) -> str:
        """Return the absolute path or URL, which is valid in every process on every machine that has the files."""
        if "://" in uri or Path(uri).is_absolute():
            return uri
        if "://" in self.root:
            return f"{self.root.rstrip('/')}/{uri}"
        return os.path.abspath(Path(self.root) / uri)  # noqa: PTH100  any text, no look at the disk

    def stamp(self, uri: str) -> str:
        """Return a string that changes with the file: of its size, times and ETag; of an http URL, only of the URL.

        Args:
            uri: An absolute path or URL.

        Raises:
            PhotoError: If the file does not exist, or its address is refused.
        """
        self._check_address(uri)
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

        Args:
            uri: An absolute path or URL.

        Raises:
            PhotoError: If the file does not exist, is no regular file, is larger or slower than allowed, or its address
                is refused.
        """
        limit, deadline = int(self.max_megabytes * 1e6), time.monotonic() + self.max_seconds
        try:
            with self._open(uri, deadline) as file:
                data = _read_at_most(limit + 1, file, deadline)
        except PhotoError:
            raise
        except Exception as error:
            if time.monotonic() >= deadline:  # whatever the file system calls it
                raise PhotoError("too_slow", f"{uri}: not read within {self.max_seconds:g} seconds") from error
            raise _missing_error(uri, error) from error
        if len(data) > limit:
            raise PhotoError("too_large", f"more than {self.max_megabytes:g} megabytes")
        return data

    def _check_address(self, uri: str) -> None:
        """Check that an address is below the root, with every link and .. followed.

        Raises:
            PhotoError: If not.
        """
        if not self.below_root:
            return
        root = self.root.rstrip("/")
        is_local = "://" not in root or root.startswith("file://")
        if is_local:
            folder = Path(self.root.removeprefix("file://")).resolve()
            path = uri.removeprefix("file://") if root.startswith("file://") else uri
            try:
                allowed = "://" not in path and Path(path).resolve().is_relative_to(folder)
            except Exception as error:  # a name that no file can have, links in a circle
                raise _missing_error(uri, error) from error
        else:
            below = unquote(uri.removeprefix(f"{root}/")).replace("\\", "/")
            # '::' would chain another file system in front of the root's
            allowed = uri.startswith(f"{root}/") and ".." not in below.split("/") and "::" not in below
        if not allowed:
            base = f"images.root == '{self.root}'" if self.root else "the working directory, as images.root is not set"
            raise PhotoError("refused", f"{uri[:200]} is not below {base}")

    def _open(self, uri: str, deadline: float, redirects: int = 0) -> IO[bytes]:
        self._check_address(uri)
        if "://" not in uri:
            return _open_regular_file(uri)
        file_system, path = url_to_fs(uri, **self.storage_options, **self._http_options(uri))
        # 0: streamed as a whole, without asking for its size first
        file: IO[bytes] = file_system.open(path, "rb", block_size=0)
        response = getattr(file, "r", None)  # of HTTP: a redirect is followed here, where its address is checked
        target = response.headers.get("Location") if response is not None and 300 <= response.status < 400 else None
        if target is None:
            return file
        file.close()
        if redirects == _MAX_REDIRECTS or time.monotonic() > deadline:
            raise PhotoError("refused", f"{uri[:200]} redirects more than {_MAX_REDIRECTS} times")
        try:
            return self._open(urljoin(uri, target), deadline, redirects + 1)
        except PhotoError as error:
            raise PhotoError(error.reason, f"{uri[:200]} redirects to {error.detail}") from error

    def _http_options(self, uri: str) -> dict[str, Any]:
        if not uri.startswith(("http://", "https://")):
            return {}
        from aiohttp import ClientTimeout  # here: most shops' photos are files, and aiohttp is slow to import

        return {"allow_redirects": False, "client_kwargs": {"timeout": ClientTimeout(total=self.max_seconds)}}


def _open_regular_file(path: str) -> IO[bytes]:
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")  # a pipe without a writer would block
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise PhotoError("refused", f"{path} is no regular file")
    return file


def content_hash(data: bytes) -> str:
    """Return the hash that identifies a photo's content: the first half of its SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()[:32]


def _read_at_most(limit: int, file: IO[bytes], deadline: float) -> bytes:
    """Read at most `limit` bytes; several reads are needed because a file over HTTP may return fewer than asked for.

    Raises:
        TimeoutError: If the deadline, of the monotonic clock in seconds, passes between two reads.
    """
    pieces, left = [], limit
    while left and (piece := file.read(left)):
        if time.monotonic() > deadline:
            raise TimeoutError
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _missing_error(uri: str, error: Exception) -> PhotoError:
    return PhotoError("missing", f"{uri}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"[:300])
