"""Places: files and folders on a local disk or in an object store, with the methods of `pathlib`.

A place of the local disk is a `Path`. Any other is a `UPath` of fsspec, by its URL: s3://, gs://, abfs://. Credentials
and endpoints are those that fsspec finds, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL. Nothing here renames,
appends or locks, since an object store cannot: what many may read is created once, under a name that nobody had.
"""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from pyarrow.fs import FileSystem, FSSpecHandler, LocalFileSystem, PyFileSystem
from upath import UPath

from recsys.errors import ConfigurationError, RecsysError, StoreError
from recsys.storage.local import create_folder, to_disk, write_whole

Place = Path | UPath

SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
"""Extra of the package that reads and writes the URLs of each scheme."""
_IN_MEMORY = "memory"
_LIBRARIES = ("adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "s3fs")


def place(url: str) -> Place:
    """Return the place of a local path or URL.

    Raises:
        ConfigurationError: If the scheme is not known, or its library is not installed.
    """
    scheme = urlsplit(url).scheme.lower() if "://" in url else ""
    if scheme in ("", "file"):
        return Path(url.removeprefix("file://"))
    if scheme not in SCHEMES and scheme != _IN_MEMORY:
        raise ConfigurationError(
            f"'{url}' is no place known here, must be a local path or a URL of {', '.join(SCHEMES)}"
        )
    try:
        return UPath(url.replace("s3a://", "s3://", 1), use_listings_cache=False)
    except ImportError as error:
        raise ConfigurationError(
            f"'{url}' needs a library that is not there ({error}): pip install 'flash-sale-recsys[{SCHEMES[scheme]}]'"
        ) from error


@contextmanager
def store_errors(where: Place) -> Iterator[None]:
    """Turn what an object store's library raises in the context into a StoreError of one line.

    Raises:
        StoreError: If an error, or what it was raised from, is of such a library.
    """
    try:
        yield
    except RecsysError:  # it says what is wrong already, whatever answer of the store it was raised after
        raise
    except Exception as error:
        if isinstance(where, Path) or not any(_is_of_a_library(each) for each in _causes(error)):
            raise
        cause = " ".join(str(error).split()) or type(error).__name__
        raise StoreError(
            f"{where}: {cause[:300]}: check that the store answers, the bucket and the credentials, then run the same "
            "command again: what is finished is not done anew"
        ) from error


def _is_of_a_library(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _LIBRARIES


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def absolute(where: Place) -> Place:
    """Return a place as processes with another working folder find it."""
    return where.resolve() if isinstance(where, Path) else where


def arrow(where: Place) -> tuple[FileSystem, str]:
    """Return a place as pyarrow knows it: a file system and the path in it."""
    if isinstance(where, Path):
        return LocalFileSystem(), str(where)
    return PyFileSystem(FSSpecHandler(where.fs)), where.path


def create(file: Place, content: bytes) -> None:
    """Create a file with its whole content, on disk on return; of several who create it, one succeeds.

    Raises:
        FileExistsError: If it exists with another content; the same one was written by a call whose answer was lost.
    """
    try:
        if isinstance(file, Path):
            _create_locally(file, content)
        else:
            file.fs.pipe_file(file.path, content, mode="create")
    except FileExistsError:
        if file.read_bytes() != content:
            raise


def put(file: Place, content: str | bytes) -> None:
    """Write a file, replacing one of that name at once: readers find the old content or the new one."""
    if isinstance(file, Path):
        write_whole(file, content)
    else:
        file.write_bytes(content.encode() if isinstance(content, str) else content)


def link(source: Place, target: Place) -> None:
    """Give a file that never changes a second name, without reading it here: a hard link, or a copy by the store."""
    if isinstance(source, Path) and isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another disk, or one without links
            shutil.copyfile(source, target)
    elif not isinstance(source, Path) and not isinstance(target, Path):
        source.fs.cp_file(source.path, target.path)
    else:
        put(target, source.read_bytes())


def _create_locally(file: Path, content: bytes) -> None:
    """Create a file by a second name of one that is written already: a reader never sees a part of it."""
    create_folder(file.parent)
    hidden = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
    try:
        hidden.write_bytes(content)
        to_disk(hidden)
        os.link(hidden, file)
        to_disk(file.parent)
    finally:
        hidden.unlink(missing_ok=True)


def files_in(folder: Place, ending: str = "") -> list[Place]:
    """Return the files of a folder whose names have an ending, by name; none if there is no folder."""
    if isinstance(folder, Path):
        found: Iterable[Place] = folder.iterdir() if folder.is_dir() else ()
        return sorted(file for file in found if file.name.endswith(ending) and file.is_file())
    prefix = folder.path.rstrip("/")
    try:
        listed = folder.fs.ls(prefix, detail=True)
    except FileNotFoundError:
        return []
    names = sorted(each["name"].rpartition("/")[2] for each in listed if each["type"] == "file")
    return [folder / name for name in names if name and name.endswith(ending)]


def contents(files: Sequence[Place]) -> list[bytes]:
    """Return the contents of files of one store; of an object store they are read at the same time.

    Raises:
        FileNotFoundError: If one is not there.
    """
    remote = [file for file in files if not isinstance(file, Path)]
    if not remote:
        return [file.read_bytes() for file in files]
    paths = [file.path for file in remote]
    found: dict[str, bytes] = remote[0].fs.cat(paths)
    return [found[path] for path in paths]


def sizes_below(folder: Place) -> dict[str, int]:
    """Return the size in bytes of each file below a folder, by its path from there; empty if there is no folder."""
    if isinstance(folder, Path):
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    root = folder.path.rstrip("/") + "/"
    found = folder.fs.find(folder.path, detail=True)
    return {name.removeprefix(root): about["size"] for name, about in found.items()}


def modified(file: Place) -> float:
    """Return when a file was last written, seconds since 1970 by the clock of the disk or store.

    Raises:
        FileNotFoundError: If there is none.
    """
    return file.stat().st_mtime if isinstance(file, Path) else file.fs.modified(file.path).timestamp()


def remove(where: Place) -> None:
    """Remove a file, or a folder and everything below it; what is not there is no error."""
    if not isinstance(where, Path):
        with suppress(FileNotFoundError):
            where.fs.rm(where.path, recursive=True)
    elif where.is_dir():
        shutil.rmtree(where, ignore_errors=True)
    else:
        where.unlink(missing_ok=True)
