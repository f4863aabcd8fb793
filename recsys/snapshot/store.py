"""A folder of snapshots: publish, rollback, list and prune.

    <root>/<name>/          a snapshot; complete, or not there
    <root>/current          the name of the one to serve
    <root>/published.log    one JSON line per change of `current`

Readers need no lock: each change is seen whole or not at all. The next write or prune removes what killed writers left.
"""

import re
from collections.abc import Container, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from recsys.errors import BusyError, ConfigurationError, SnapshotError
from recsys.instants import to_micros
from recsys.snapshot.format import Manifest, Snapshot, read_manifest
from recsys.storage.local import held, remove_folder, remove_leftovers, write_whole

_CURRENT = "current"
_LOG = "published.log"
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}")
_REFRESHED = re.compile(r"(?P<night>.+)\.r(?P<number>\d{4,})(-\d+)?")
"""The name of a refreshed snapshot; a suffix follows where it was written again without an erased user."""


class Publication(BaseModel):
    """A line of `published.log`: from when a snapshot was served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    published_at: AwareDatetime
    action: Literal["publish", "rollback"]
    name: str


class ListedSnapshot(BaseModel):
    """A snapshot of a folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    is_current: bool
    published_at: datetime | None
    """When it last became the current one; None if it never did."""
    as_of: datetime | None = None
    versions: dict[str, str] = {}
    n_users: int | None = None
    n_sales: int | None = None
    n_bytes: int | None = None
    problem: str | None = None
    """Why it cannot be served; the fields from `as_of` on are empty then."""


def is_name(name: str) -> bool:
    """Return whether a text may name a snapshot: it is a name of one folder, and none outside."""
    return _NAME.fullmatch(name) is not None


def refreshed_name(night: str, number: int) -> str:
    """Return the name of a night's snapshot as it is after a refresh, the first one having number 1."""
    return f"{night}.r{number:04}"


def refreshes(root: Path, night: str) -> list[int]:
    """Return the numbers of the refreshed snapshots of a night's snapshot, in ascending order."""
    found = map(_REFRESHED.fullmatch, names(root))
    return sorted(int(each["number"]) for each in found if each and each["night"] == night)


def current(root: Path) -> str | None:
    """Return the name of the snapshot to serve; None before the first one is published.

    Raises:
        SnapshotError: If the file `current` cannot be read or holds no name.
    """
    try:
        name = (root / _CURRENT).read_text("utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise SnapshotError(f"{root / _CURRENT} cannot be read ({error}): publish a snapshot again") from None
    if not is_name(name):
        raise SnapshotError(f"{root / _CURRENT} == {name!r}, must be a snapshot's name: publish a snapshot again")
    return name


def in_use(root: Path) -> Snapshot | None:
    """Return the current snapshot, without a check of its files' contents; None without one that can be read."""
    try:
        name = current(root)
        return Snapshot.open(root / name, verify=False) if name else None
    except SnapshotError:  # damaged, or of another format
        return None


def publish(root: Path, name: str, published_at: datetime, instead_of: str | None = None) -> None:
    """Make a snapshot the current one; does nothing if it already is.

    Args:
        root: The folder of snapshots.
        name: The snapshot.
        published_at: The present instant.
        instead_of: The snapshot that it takes the place of; any if None.

    Raises:
        SnapshotError: If there is no such snapshot, or one of its files has another size than its manifest says.
        BusyError: If another snapshot than `instead_of` is the current one.
    """
    if not is_name(name):
        raise SnapshotError(f"name == {name!r}, must be a snapshot's name: see 'recsys snapshots list'")
    with held(root):
        read_manifest(root / name)
        if (now := current(root)) != name:
            if instead_of not in (None, now):
                raise BusyError(
                    f"{now} took the place of {instead_of} meanwhile, so {name} is not published: run again"
                )
            _switch(root, Publication(published_at=_utc(published_at), action="publish", name=name))


def rollback(root: Path, rolled_back_at: datetime) -> str:
    """Make the snapshot that was published before the current one the current one, and return its name.

    A second rollback goes back by one more. Snapshots that were removed are skipped.

    Raises:
        SnapshotError: If no earlier snapshot exists.
    """
    with held(root):
        now, earlier = current(root), published_before_current(root)
        if not earlier:
            raise SnapshotError(
                f"{root} has no snapshot published before {now}, a rollback needs one: "
                "publish another with 'recsys nightly'"
            )
        name = earlier[0]
        read_manifest(root / name)
        _switch(root, Publication(published_at=_utc(rolled_back_at), action="rollback", name=name))
    return name


def listing(root: Path) -> list[ListedSnapshot]:
    """Return the snapshots of a folder, the latest `as_of` first; a damaged one has a `problem`."""
    serving = current(root)
    published = {publication.name: publication.published_at for publication in publications(root)}
    newest_first = reversed(names(root))
    return [_listed_snapshot(root / name, name == serving, published.get(name)) for name in newest_first]


def publications(root: Path) -> list[Publication]:
    """Return all changes of the current snapshot, the oldest first.

    Raises:
        SnapshotError: If a line of the log is damaged.
    """
    log = root / _LOG
    if not log.exists():
        return []
    found = []
    for number, line in enumerate(log.read_text("utf-8").splitlines(), start=1):
        try:
            found.append(Publication.model_validate_json(line))
        except ValidationError:
            raise SnapshotError(
                f"{log}:{number} == {line[:80]!r}, must be a JSON line of published_at, action and name: "
                "remove the line"
            ) from None
    return found


def published_before_current(root: Path) -> list[str]:
    """Return the names of the existing snapshots published before the current one, the latest first.

    Those that were rolled back are not among them. All that were published, where the file `current` is damaged.

    Raises:
        SnapshotError: If a line of the log is damaged.
    """
    now = None
    with suppress(SnapshotError):
        now = current(root)
    return [name for name in published_before(publications(root), now) if (root / name).is_dir()]


def published_before(published: Sequence[Publication], now: str | None) -> list[str]:
    """Return the names published before the one that is served now, the latest first; all where none is served."""
    served: list[str] = []
    for publication in published:
        if publication.action == "rollback" and publication.name in served:
            while served[-1] != publication.name:
                served.pop()
        else:
            served.append(publication.name)
    if now in served:
        while served[-1] != now:
            served.pop()
    return [name for name in dict.fromkeys(reversed(served)) if name != now]


def replace(root: Path, name: str, other: str) -> None:
    """Let a snapshot take the place of another, in the log and as the current one, and remove the other.

    Args:
        root: The folder of snapshots.
        name: The snapshot to remove.
        other: The one that takes its place.
    """
    with held(root):
        if (log := root / _LOG).exists():
            lines = [
                each.model_copy(update={"name": other} if each.name == name else {}) for each in publications(root)
            ]
            write_whole(log, "".join(f"{line.model_dump_json()}\n" for line in lines))
        if current(root) == name:
            write_whole(root / _CURRENT, f"{other}\n")
        remove_folder(root / name)


def prune(root: Path, keep: int, keep_hourly: int = 1, hourly: Container[str] = ()) -> list[str]:
    """Remove all but the latest snapshots, and return the names of those removed.

    The current one and the one that a rollback goes to are never removed; leftovers of killed writers always are. Of
    refreshed snapshots only the last one is kept besides: they share most of their files.

    Args:
        root: The folder of snapshots.
        keep: Number of snapshots to keep, at least 1, those with the latest `as_of`.
        keep_hourly: Number of hourly ones to keep besides.
        hourly: The instants, as names of snapshots begin with them, of the hourly ones.
    """
    if keep < 1:
        raise ConfigurationError(f"keep == {keep}, must be at least 1: the current snapshot always stays")
    with held(root):
        remove_leftovers(root)
        needed = {current(root), *published_before_current(root)[:1]}
        removed = surplus(names(root), needed, keep, keep_hourly, hourly)
        for name in removed:
            remove_folder(root / name)
    return removed


def surplus(
    every: Sequence[str], needed: Container[str | None], keep: int, keep_hourly: int, hourly: Container[str]
) -> list[str]:
    """Return which snapshots are beyond the numbers to keep, see `prune`.

    Args:
        every: The names of all snapshots, in ascending order.
        needed: Those that stay in any case.
        keep: As for `prune`, as are the others.
        keep_hourly: See there.
        hourly: See there.
    """
    refreshed = [name for name in every if _REFRESHED.fullmatch(name)]
    written = [name for name in every if name not in refreshed]
    nights = [name for name in written if name.partition("-")[0] not in hourly]
    hours = [name for name in written if name.partition("-")[0] in hourly]
    kept = {*nights[-keep:], *hours[-keep_hourly:], *refreshed[-1:]}
    return [name for name in every if name not in kept and name not in needed]


def follow(root: Path, published: Sequence[Publication]) -> None:
    """Let a folder serve what the last one of some publications says, with all of them as its log."""
    with held(root):
        write_whole(root / _LOG, "".join(f"{line.model_dump_json()}\n" for line in published))
        write_whole(root / _CURRENT, f"{published[-1].name}\n")


def _switch(root: Path, publication: Publication) -> None:
    # The log first: after a crash in between, `current` is the truth and published_before_current still holds.
    log = root / _LOG
    lines = log.read_text("utf-8") if log.exists() else ""
    write_whole(log, f"{lines}{publication.model_dump_json()}\n")
    write_whole(root / _CURRENT, f"{publication.name}\n")


def _listed_snapshot(path: Path, is_current: bool, published_at: datetime | None) -> ListedSnapshot:
    try:
        manifest = read_manifest(path)
    except SnapshotError as error:
        return ListedSnapshot(name=path.name, is_current=is_current, published_at=published_at, problem=str(error))
    return listed(path.name, manifest, is_current, published_at)


def listed(name: str, manifest: Manifest, is_current: bool, published_at: datetime | None) -> ListedSnapshot:
    """Return a snapshot as a list of snapshots shows it."""
    return ListedSnapshot(
        name=name,
        is_current=is_current,
        published_at=published_at,
        as_of=manifest.as_of,
        versions=manifest.versions,
        n_users=manifest.n_users,
        n_sales=manifest.n_sales,
        n_bytes=manifest.n_bytes,
    )


def names(root: Path) -> list[str]:
    """Return the names of the snapshots of a folder, in ascending order."""
    if not root.is_dir():
        return []
    return sorted(path.name for path in root.iterdir() if path.is_dir() and _NAME.fullmatch(path.name))


def _utc(instant: datetime) -> datetime:
    to_micros(instant)  # refuses an instant without zone
    return instant.astimezone(UTC)
