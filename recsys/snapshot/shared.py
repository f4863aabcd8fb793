"""The snapshots of a fleet, in an object store: what is served, and the files of each snapshot.

    <folder>/snapshots/published/00000001.json   what is served from here on, and what was before
                       manifests/<name>.json     the manifest of a snapshot, whose files are all there
                       files/<SHA-256>           a file of one or more snapshots, by the checksum of its content

Nothing is renamed or changed. A snapshot exists when its manifest does, which is written after its files, and it is
served when an entry of `published` says so: a number that only one of several publishers can be the first to create.
Files have the names of their contents, so that a refreshed snapshot shares those of its night, and none is mixed.
"""

import json
import os
import platform
import secrets
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recsys.errors import BusyError, RecsysError, SnapshotError, StoreError
from recsys.snapshot.format import MANIFEST, Manifest, describe, parse_manifest, read_manifest
from recsys.snapshot.store import ListedSnapshot, Publication, listed, published_before, surplus
from recsys.storage.places import Place, create, modified, remove, sizes_below

FILES_AT_ONCE = 8
"""Requests at a time: one connection to an object store gives some 50 MB/s, whatever the network."""
_PUBLICATIONS = 200
_ENTRIES = 500
"""Entries that stay: a publisher would have to sleep through so many to create a number that was removed."""
_UNUSED = timedelta(days=1)
"""Age from which a file that no manifest names is removed: before, a push may not have got to its manifest."""


class Entry(BaseModel):
    """What is served from an entry of `published` on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    number: int
    by: str
    """The process that created it, for messages."""
    publications: tuple[Publication, ...] = Field(min_length=1)
    """All until now, the oldest first, of the last 200; the last one is served."""

    @property
    def name(self) -> str:
        """The snapshot that is served."""
        return self.publications[-1].name


class SharedSnapshots:
    """The snapshots below a URL; safe for concurrent use.

    Every method raises StoreError where the store does not answer.
    """

    def __init__(self, place: Place):
        self._place = place
        self._published, self._manifests, self._files = (place / each for each in ("published", "manifests", "files"))

    def __str__(self) -> str:
        """Return the URL."""
        return str(self._place)

    def newest(self) -> Entry | None:
        """Return what is served; None before the first publication.

        Raises:
            SnapshotError: If the entry is damaged.
        """
        with self.errors():
            numbers = self._numbers()
            return self._entry(max(numbers)) if numbers else None

    def names(self) -> list[str]:
        """Return the names of all snapshots, in ascending order."""
        with self.errors():
            return sorted(name.removesuffix(".json") for name in sizes_below(self._manifests))

    def manifest_bytes(self, name: str) -> bytes | None:
        """Return the content of a snapshot's manifest; None without one."""
        with self.errors():
            try:
                return bytes((self._manifests / f"{name}.json").read_bytes())
            except FileNotFoundError:
                return None

    def manifest(self, name: str) -> Manifest:
        """Return a snapshot's manifest.

        Raises:
            SnapshotError: If there is no such snapshot, or the manifest is damaged.
        """
        if (content := self.manifest_bytes(name)) is None:
            raise SnapshotError(f"snapshot {name} is not in {self}: see 'recsys snapshots list'")
        return parse_manifest(content, f"{self._manifests}/{name}.json")

    def file(self, sha256: str) -> Place:
        """Return the place of a file."""
        return self._files / sha256

    def sizes(self) -> Mapping[str, int]:
        """Return the size of each file, by its checksum."""
        with self.errors():
            return sizes_below(self._files)

    def push(self, snapshot: Path, again: bool = False) -> bool:
        """Copy a snapshot of this machine here, files that are there excepted; killed anywhere, it can be repeated.

        Args:
            snapshot: The folder of the snapshot.
            again: Whether to copy all of its files, as some of those that are here may be damaged.

        Returns:
            Whether it is here; False if another snapshot is, under the same name.

        Raises:
            SnapshotError: If a file of it is damaged.
        """
        files = {entry.sha256: snapshot / name for name, entry in read_manifest(snapshot).files.items()}
        content = (snapshot / MANIFEST).read_bytes()
        if self.manifest_bytes(snapshot.name) not in (None, content):
            return False
        self._upload(files, {} if again else self.sizes())
        try:
            with self.errors():
                create(self._manifests / f"{snapshot.name}.json", content)
        except FileExistsError:
            return False
        self._upload(files, self.sizes())  # those that a prune removed before it knew this manifest
        return True

    def announce(self, before: Entry | None, publications: Sequence[Publication]) -> None:
        """Let the last one of some publications be served from now on, if nobody was faster.

        Args:
            before: What is served until now, by `newest`.
            publications: All, the oldest first.

        Raises:
            BusyError: If another process published meanwhile; it says who.
        """
        number = before.number + 1 if before else 1
        by = f"process {os.getpid()} of {platform.node()}"
        entry = Entry(number=number, by=by, publications=tuple(publications[-_PUBLICATIONS:]))
        content = entry.model_dump(mode="json") | {"token": secrets.token_hex(8)}  # differs from anybody else's
        try:
            with self.errors():
                create(self._published / f"{number:08}.json", json.dumps(content, indent=1).encode())
        except FileExistsError:
            with self.errors():
                other = self._entry(number)
            raise BusyError(
                f"{other.by} published {other.name} just now, so {entry.name} is not published: run again"
            ) from None

    def remove(self, name: str) -> None:
        """Remove a snapshot, and at once its files that no other snapshot has."""
        content = self.manifest_bytes(name)
        if content is None:
            return
        with self.errors():
            remove(self._manifests / f"{name}.json")
        files = {entry.sha256 for entry in parse_manifest(content, name).files.values()}
        for sha256 in files - self._used():
            with self.errors():
                remove(self.file(sha256))

    def prune(self, keep: int, keep_hourly: int, hourly: Container[str], at: datetime) -> None:
        """Remove all but the latest snapshots, see `store.prune`, and files that nothing has needed for a day."""
        entry, every = self.newest(), self.names()
        needed = {entry.name, *self.earlier(entry)[:1]} if entry else set()
        for name in surplus(every, needed, keep, keep_hourly, hourly):
            with self.errors():
                remove(self._manifests / f"{name}.json")
        unused = self.sizes().keys() - self._used()
        with self.errors():
            for sha256 in unused:
                if at - datetime.fromtimestamp(modified(self.file(sha256)), at.tzinfo) > _UNUSED:
                    remove(self.file(sha256))
            for number in sorted(self._numbers())[:-_ENTRIES]:
                remove(self._published / f"{number:08}.json")

    def earlier(self, entry: Entry) -> list[str]:
        """Return the names of the existing snapshots published before the one that is served, the latest first."""
        every = self.names()
        return [name for name in published_before(entry.publications, entry.name) if name in every]

    def listing(self) -> list[ListedSnapshot]:
        """Return all snapshots, the latest `as_of` first; a damaged one has a `problem`."""
        entry = self.newest()
        published = {each.name: each.published_at for each in entry.publications} if entry else {}
        return [self._listed(name, entry, published.get(name)) for name in reversed(self.names())]

    def _listed(self, name: str, entry: Entry | None, published_at: datetime | None) -> ListedSnapshot:
        is_current = entry is not None and entry.name == name
        try:
            return listed(name, self.manifest(name), is_current, published_at)
        except SnapshotError as error:
            return ListedSnapshot(name=name, is_current=is_current, published_at=published_at, problem=str(error))

    def _numbers(self) -> list[int]:
        return [int(name.removesuffix(".json")) for name in sizes_below(self._published) if name[:8].isdecimal()]

    def _entry(self, number: int) -> Entry:
        file = self._published / f"{number:08}.json"
        try:
            return Entry.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise SnapshotError(
                f"{file} breaks its format ({error}): remove it, and publish a snapshot again"
            ) from None

    def _used(self) -> set[str]:
        """Return the checksums of the files of all snapshots."""
        return {entry.sha256 for name in self.names() for entry in self.manifest(name).files.values()}

    def _upload(self, files: Mapping[str, Path], there: Mapping[str, int]) -> None:
        missing = [(sha256, file) for sha256, file in files.items() if there.get(sha256) != file.stat().st_size]
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            list(pool.map(lambda each: self._upload_file(*each), missing))

    def _upload_file(self, sha256: str, file: Path) -> None:
        if describe(file).sha256 != sha256:
            raise SnapshotError(f"{file} has not the checksum of its manifest: write the snapshot again")
        target: Any = self.file(sha256)
        with self.errors():
            target.fs.put_file(str(file), target.path)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn an error of the store's library into a StoreError, unless it says that a file is there or is not."""
        try:
            yield
        except (RecsysError, FileNotFoundError, FileExistsError):
            raise
        except Exception as error:
            raise StoreError(
                f"{self} does not answer ({type(error).__name__}: {error}): check network, credentials and endpoint"
            ) from error
