"""The snapshot format: a folder that holds the data of every home page of a horizon, read without Spark or Arrow.

    <name>/manifest.json           versions, fingerprint, counts, and the size and SHA-256 of every other file
           sales.json              the sales of the horizon; a ranking holds positions in this list. Those that a
                                   refresh added follow the night's, whose positions do not change
           user_hashes.bin         the 64-bit hashes of the user ids, ascending
           user_rows.bin           the row of each of these users
           user_id_offsets.bin     where the id of each row starts in user_ids.bin
           user_ids.bin            the ids, UTF-8, concatenated: they distinguish users with the same hash
           ranking_<policy>.bin    one record per row: scores, sales, reasons, covers, best first
           history_offsets.bin     where the events of each row start in history_events.bin
           history_events.bin      the users' events before as_of, which a running session adds to
           shared_rankings.json    the rankings for all users, and those for each segment of users
           files/...               model data, as given

A user's record is contiguous, so that a look-up that misses the page cache reads the disk once. The position of a sale
takes two bytes if there are at most 65,536 sales: a user with an id of 12 characters and 30 sales takes 40 bytes, 188
bytes per policy and 8 bytes per event.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from recsys.errors import SnapshotError
from recsys.instants import from_micros, to_micros
from recsys.snapshot.users import MappedUsers, Ranking, RecordLayout, Users

FORMAT = 3
MANIFEST = "manifest.json"
SALES = "sales.json"
SHARED = "shared_rankings.json"
POPULARITY = "popularity"
"""The policy whose shared ranking every snapshot has."""
OPEN = "open"
"""The reason of a sale that no evidence speaks for: it is open."""
MAX_IMAGES = 256
"""Maximum number of photos of a sale: the position of a photo takes one byte."""

_ADVICE = "write the snapshot again with 'recsys nightly'"


@dataclass(frozen=True, slots=True)
class SnapshotSale:
    """A sale of the horizon, open during [opens_at, closes_at), aware UTC."""

    sale_id: str
    title: str
    opens_at: datetime
    closes_at: datetime
    price: float | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    """URIs of the photos by position, the cover first; at most 256."""
    theme: str | None = None
    """The theme with the largest weight in its photos; None if it has none."""


class LeftOut(BaseModel):
    """Something that a night could not learn or rank, and that its snapshot is published without."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    """What is missing, such as `policy meta`."""
    why: str
    """The value and the rule that it breaks."""
    until: str
    """What ends it: an event to wait for, or the next step."""
    degrades_pages: bool = True
    """Whether users' pages are worse without it; otherwise something is only not known or not checked."""

    def __str__(self) -> str:
        """Return the line that nights print."""
        return f"{self.what}: {self.why}; until {self.until}"


SharedRanking = Ranking | tuple[np.ndarray, np.ndarray, np.ndarray]
"""A ranking for several users; one of three arrays has no `covers`."""


@dataclass(frozen=True)
class SnapshotContents:
    """Everything of a snapshot except the users' own rankings."""

    as_of: datetime
    """Events before this instant are known."""
    horizon_end: datetime
    """The snapshot ranks every sale that is open at any instant of [as_of, horizon_end)."""
    sales: Sequence[SnapshotSale]
    """Each once: rankings hold positions in this list. A night's are in ascending order of sale_id."""
    policies: Sequence[str]
    """The policies that rank for each user."""
    shared_rankings: Mapping[str, SharedRanking]
    """Rankings by the policies that are the same for all users; `popularity` is required and should rank all sales."""
    reasons: Sequence[str]
    """Names of features, at most 256; a detail may follow: `content_images/pool · palm trees`."""
    versions: Mapping[str, str]
    """The registered model that ranked, by its name, and its version: {"home_ranker": "3"}; empty without one."""
    fingerprint: str
    """Digest of all inputs and settings; at least 8 letters and digits."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Model data to include: name → file or folder."""
    segments: Mapping[str, Mapping[str, SharedRanking]] = field(default_factory=dict)
    """Rankings for segments, the users who share the value of an attribute: attribute → value → ranking."""
    missing_policies: Sequence[str] = ()
    """Configured policies that no ranking could be made by."""
    left_out: Sequence[LeftOut] = ()
    """What the night could not learn or rank."""


class FileEntry(BaseModel):
    """A file of a snapshot, as the manifest describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str


class Manifest(BaseModel):
    """The manifest of a snapshot: versions, counts, and all other files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    as_of: AwareDatetime
    horizon_end: AwareDatetime
    policies: tuple[str, ...]
    shared_policies: tuple[str, ...]
    reasons: tuple[str, ...]
    versions: dict[str, str]
    fingerprint: str
    k: int
    """Number of sales in each user's ranking."""
    n_users: int
    n_sales: int
    n_visits: int | None = None
    """Number of visits in the users' histories; None if the snapshot does not say."""
    files: dict[str, FileEntry]
    missing_policies: tuple[str, ...] = ()
    """Configured policies that the night could not rank by; requests for them are answered as for unknown users."""
    left_out: tuple[LeftOut, ...] = ()
    """What the night could not learn or rank."""
    users_of: str | None = None
    """The snapshot of the night whose users' files a refresh took over as they are; None for a night's own."""

    @property
    def n_bytes(self) -> int:
        """Size of all files except the manifest, in bytes."""
        return sum(entry.size for entry in self.files.values())

    def to_json(self) -> str:
        """Return the manifest as JSON, with a checksum of its content."""
        values = self.model_dump(mode="json", exclude_none=True)  # versions that do not know a field refuse it
        return json.dumps({**values, "sha256": _manifest_checksum(values)}, indent=1, sort_keys=True) + "\n"


def is_of_users(file: str) -> bool:
    """Return whether a file of a snapshot holds data of users, which may be stored elsewhere."""
    return file.startswith(("user_", "ranking_", "history_"))


def read_manifest(path: Path, with_users: bool = True) -> Manifest:
    """Return the manifest of a snapshot, after a check of its format and of the sizes of all files.

    Args:
        path: The snapshot's folder.
        with_users: Whether the folder has the files of users too.

    Raises:
        SnapshotError: If the manifest is missing, damaged or of another format, or a file has another size.
    """
    manifest_file = path / MANIFEST
    try:
        content = manifest_file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise SnapshotError(f"{manifest_file} is missing, a snapshot must have one: {_ADVICE}") from None
    except OSError as error:
        raise SnapshotError(
            f"{manifest_file} cannot be read ({error.strerror}): check the disk, or {_ADVICE}"
        ) from None
    manifest = parse_manifest(content, str(manifest_file))
    for name, entry in manifest.files.items():
        if with_users or not is_of_users(name):
            _check_size(path / name, entry)
    return manifest


def parse_manifest(content: bytes, where: str) -> Manifest:
    """Return a manifest whose checksum, format and file names were checked: the names stay within the snapshot.

    Args:
        content: The content of the file.
        where: Where it is from, for messages.

    Raises:
        SnapshotError: If it is damaged, of another format, or lists a file outside the snapshot's folder.
    """
    try:
        values = json.loads(content)
        checksum = dict.pop(values, "sha256", None)
    except (ValueError, TypeError, RecursionError) as error:
        raise SnapshotError(f"{where} must be a JSON object ({error}): {_ADVICE}") from None
    if values.get("format") != FORMAT:
        raise SnapshotError(f"{where}: format == {values.get('format')!r}, must be {FORMAT}: {_ADVICE}")
    if checksum != _manifest_checksum(values):
        raise SnapshotError(f"{where}: sha256 == {checksum!r}, must be that of its content: {_ADVICE}")
    try:
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        raise SnapshotError(f"{where} breaks its format ({error}): {_ADVICE}") from None
    if outside := [name for name in manifest.files if not _is_within(name)]:
        raise SnapshotError(f"{where}: files == {outside}, must be files below the snapshot's folder: {_ADVICE}")
    return manifest


def _is_within(name: str) -> bool:
    """Return whether a name is that of a file below the folder that it is joined to."""
    return name != MANIFEST and "\0" not in name and not {"", ".", ".."} & set(name.split("/"))


def describe(file: Path) -> FileEntry:
    """Return the manifest's entry of a file."""
    with file.open("rb") as stream:
        return FileEntry(size=file.stat().st_size, sha256=hashlib.file_digest(stream, "sha256").hexdigest())


class Snapshot:
    """A snapshot, memory-mapped and immutable: any number of threads may read it."""

    def __init__(self, path: Path, manifest: Manifest, users: Callable[[RecordLayout], Users] | None = None):
        self.path = path
        self.name = path.name
        self.manifest = manifest
        self.as_of: datetime = manifest.as_of
        self.horizon_end: datetime = manifest.horizon_end
        self.policies = manifest.policies
        self.reasons = manifest.reasons
        self.versions = manifest.versions
        self.model_version = next(iter(manifest.versions.values()), "")
        self.fingerprint = manifest.fingerprint
        self.k = manifest.k
        self.sales = _read_sales(path / SALES)
        self.opens_at = np.array([to_micros(sale.opens_at) for sale in self.sales], np.int64)
        self.closes_at = np.array([to_micros(sale.closes_at) for sale in self.sales], np.int64)
        shared = json.loads((path / SHARED).read_bytes())
        self.shared_rankings = {policy: _ranking_from_json(row) for policy, row in shared["policies"].items()}
        self.segments = {
            attribute: {value: _ranking_from_json(row) for value, row in rows.items()}
            for attribute, rows in shared["segments"].items()
        }
        n_photos = [max(len(sale.images), 1) for sale in self.sales]
        layout = RecordLayout(manifest.policies, manifest.k, len(manifest.reasons), n_photos)
        self.users: Users = MappedUsers(path, layout) if users is None else users(layout)

    @classmethod
    def open(cls, path: Path, verify: bool = True, users: Callable[[RecordLayout], Users] | None = None) -> "Snapshot":
        """Return the snapshot of a folder.

        Args:
            path: The snapshot's folder.
            verify: Whether to compare the checksum of each file, which reads all of it.
            users: Returns the users for a layout of records, if their records are not in the folder.

        Raises:
            SnapshotError: If a file is missing, has another size or checksum, or the format is another one.
        """
        manifest = read_manifest(path, with_users=users is None)
        if verify:
            for name, entry in manifest.files.items():
                if users is None or not is_of_users(name):
                    _check_checksum(path / name, entry)
        try:
            return cls(path, manifest, users)
        except OSError as error:  # removed meanwhile by a prune
            raise SnapshotError(f"{path} cannot be read ({error}): choose another snapshot, or {_ADVICE}") from None

    @cached_property
    def all_policies(self) -> tuple[str, ...]:
        """The names of all policies, in ascending order."""
        return tuple(sorted({*self.policies, *self.shared_rankings}))

    @cached_property
    def answered_policies(self) -> tuple[str, ...]:
        """The names of all policies that a page may be requested by, including the missing ones, in ascending order."""
        return tuple(sorted({*self.all_policies, *self.manifest.missing_policies}))

    def ranking(self, policy: str, user_id: str) -> Ranking | None:
        """Return a policy's ranking for a user, as views; None if a personal policy has none for the user.

        Raises:
            SnapshotError: If the snapshot has no such policy.
        """
        if policy in self.shared_rankings:
            return self.shared_rankings[policy]
        if policy not in self.policies:
            raise SnapshotError(
                f"policy == {policy!r}, must be one of snapshot {self.name}: {', '.join(self.all_policies)}"
            )
        user = self.users.find(user_id)
        return None if user is None else user.ranking(policy)

    def file(self, name: str) -> Path:
        """Return the path of an included file or folder.

        Raises:
            SnapshotError: If the snapshot has none of this name.
        """
        path = self.path / "files" / name
        if not path.exists():
            raise SnapshotError(f"{path} is missing, snapshot {self.name} was written without it: {_ADVICE}")
        return path


def sales_to_json(sales: Sequence[SnapshotSale]) -> str:
    """Return sales as JSON; instants are microseconds since 1970 UTC."""
    rows = [
        {
            "sale_id": sale.sale_id,
            "title": sale.title,
            "opens_at": to_micros(sale.opens_at),
            "closes_at": to_micros(sale.closes_at),
            "price": sale.price,
            "attributes": dict(sale.attributes),
            "images": list(sale.images),
            "theme": sale.theme,
        }
        for sale in sales
    ]
    return json.dumps(rows, indent=0, ensure_ascii=False, allow_nan=False)


def _read_sales(file: Path) -> tuple[SnapshotSale, ...]:
    rows = json.loads(file.read_text("utf-8"))
    return tuple(
        SnapshotSale(
            sale_id=row["sale_id"],
            title=row["title"],
            opens_at=from_micros(row["opens_at"]),
            closes_at=from_micros(row["closes_at"]),
            price=row["price"],
            attributes=row["attributes"],
            images=tuple(row["images"]),
            theme=row["theme"],
        )
        for row in rows
    )


def shared_to_json(contents: SnapshotContents) -> str:
    """Return the rankings for all users and for segments as JSON."""
    policies = {policy: _ranking_to_json(ranking) for policy, ranking in contents.shared_rankings.items()}
    segments = {
        attribute: {value: _ranking_to_json(ranking) for value, ranking in rows.items()}
        for attribute, rows in contents.segments.items()
    }
    return json.dumps({"policies": policies, "segments": segments}, ensure_ascii=False, allow_nan=False)


def _ranking_to_json(ranking: SharedRanking) -> dict[str, list[float]]:
    return {name: np.asarray(values).tolist() for name, values in Ranking(*ranking)._asdict().items()}


def _ranking_from_json(columns: Mapping[str, list[float]]) -> Ranking:
    kinds = {"sales": np.int64, "scores": np.float32, "reasons": np.uint8, "covers": np.uint8}
    return Ranking(**{name: np.array(columns[name], kind) for name, kind in kinds.items()})


def _manifest_checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _check_size(file: Path, entry: FileEntry) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise SnapshotError(f"{file} cannot be read ({error.strerror}), the manifest lists it: {_ADVICE}") from None
    if size != entry.size:
        raise SnapshotError(f"{file} has {size} bytes, must have {entry.size} by the manifest: {_ADVICE}")


def _check_checksum(file: Path, entry: FileEntry) -> None:
    try:
        sha256 = describe(file).sha256
    except OSError as error:
        raise SnapshotError(f"{file} cannot be read ({error.strerror}): check the disk, or {_ADVICE}") from None
    if sha256 != entry.sha256:
        raise SnapshotError(f"{file}: sha256 == {sha256}, must be {entry.sha256} by the manifest: {_ADVICE}")
