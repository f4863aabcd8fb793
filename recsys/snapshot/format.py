"""The snapshot format: one folder that answers every home page of a horizon, read without Spark or Arrow.

    <name>/manifest.json           what made it, counts, and the size and SHA-256 of every other file
           sales.json              the sales of the horizon; a ranking holds positions in this list
           user_hashes.bin         the 64-bit hashes of the user ids, ascending
           user_rows.bin           the row of each of these users
           user_id_offsets.bin     where the id of each row starts in user_ids.bin
           user_ids.bin            the ids, UTF-8, end to end: they tell users with the same hash apart
           ranking_<policy>.bin    one record a row: scores, sales, reasons, covers, best first
           history_offsets.bin     where the events of each row start in history_events.bin
           history_events.bin      the users' events before as_of, which a running session adds to
           shared_rankings.json    the rankings for all users, and for all users of a segment
           files/...               model data, as it was given

A user's record lies in one place, so that a look-up that misses the page cache reads the disk once. Sales
take two bytes while there are at most 65,536 of them: a user with 12 characters of id and 30 sales takes 40
bytes, 188 for each policy and 8 for each event.
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
"""The shared ranking that every snapshot has."""
MAX_IMAGES = 256
"""Photos of a sale: the position of one takes a byte."""

_AGAIN = "write the snapshot again with 'recsys nightly'"


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
    """What its photos show most."""


SharedRanking = Ranking | tuple[np.ndarray, np.ndarray, np.ndarray]
"""A ranking for all users; three arrays are one without `covers`."""


@dataclass(frozen=True)
class SnapshotContents:
    """Everything of a snapshot but the users' own rankings."""

    as_of: datetime
    """Events are known up to this instant, excluded."""
    horizon_end: datetime
    """The snapshot ranks every sale that is open at any instant of [as_of, horizon_end)."""
    sales: Sequence[SnapshotSale]
    """In ascending order of sale_id: rankings hold positions in this list."""
    policies: Sequence[str]
    """The policies that rank for each user."""
    shared_rankings: Mapping[str, SharedRanking]
    """The policies that rank alike for all users: `popularity` always, which should rank all sales."""
    reasons: Sequence[str]
    """Kinds of evidence, at most 256; a detail may follow: `content_images/pool · palm trees`."""
    versions: Mapping[str, str]
    """The registered model that ranked, by its name, and its version: {"home_ranker": "3"}; empty without one."""
    fingerprint: str
    """Of all inputs and settings; at least 8 letters and digits."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Model data to carry inside: a name for each file or folder."""
    segments: Mapping[str, Mapping[str, SharedRanking]] = field(default_factory=dict)
    """Rankings for the users of whom an attribute has a value: attribute → value → ranking."""


class FileEntry(BaseModel):
    """A file of a snapshot, as the manifest describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str


class Manifest(BaseModel):
    """What a snapshot says of itself."""

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
    """Sales in each user's ranking."""
    n_users: int
    n_sales: int
    files: dict[str, FileEntry]

    @property
    def n_bytes(self) -> int:
        """Size of all files but the manifest."""
        return sum(entry.size for entry in self.files.values())

    def to_json(self) -> str:
        """Return the manifest with a checksum of itself."""
        values = self.model_dump(mode="json")
        return json.dumps({**values, "sha256": _checksum(values)}, indent=1, sort_keys=True) + "\n"


def is_of_users(file: str) -> bool:
    """Tell whether a file of a snapshot holds its users, which may lie elsewhere."""
    return file.startswith(("user_", "ranking_", "history_"))


def read_manifest(path: Path, with_users: bool = True) -> Manifest:
    """Read the manifest of a snapshot, and check its format and the sizes of all files.

    Args:
        path: The snapshot's folder.
        with_users: Whether it holds the files of the users too.

    Raises:
        SnapshotError: If the manifest is missing, damaged or of another format, or a file has another size.
    """
    manifest_file = path / MANIFEST
    try:
        values = json.loads(manifest_file.read_bytes())
        checksum = dict.pop(values, "sha256", None)
    except (FileNotFoundError, NotADirectoryError):
        raise SnapshotError(f"{manifest_file} is missing, a snapshot must have one: {_AGAIN}") from None
    except (ValueError, TypeError) as error:
        raise SnapshotError(f"{manifest_file} must be a JSON object ({error}): {_AGAIN}") from None
    except OSError as error:
        raise SnapshotError(f"{manifest_file} cannot be read ({error.strerror}): check the disk, or {_AGAIN}") from None
    if values.get("format") != FORMAT:
        raise SnapshotError(f"{manifest_file}: format == {values.get('format')!r}, must be {FORMAT}: {_AGAIN}")
    if checksum != _checksum(values):
        raise SnapshotError(f"{manifest_file}: sha256 == {checksum!r}, must be that of its content: {_AGAIN}")
    try:
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        raise SnapshotError(f"{manifest_file} breaks its format ({error}): {_AGAIN}") from None
    for name, entry in manifest.files.items():
        if with_users or not is_of_users(name):
            _check_size(path / name, entry)
    return manifest


def describe(file: Path) -> FileEntry:
    """Measure a file for the manifest."""
    with file.open("rb") as stream:
        return FileEntry(size=file.stat().st_size, sha256=hashlib.file_digest(stream, "sha256").hexdigest())


class Snapshot:
    """One snapshot, memory-mapped and immutable: any number of threads may read it."""

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
        self.shared_rankings = {policy: _ranking(row) for policy, row in shared["policies"].items()}
        self.segments = {
            attribute: {value: _ranking(row) for value, row in rows.items()}
            for attribute, rows in shared["segments"].items()
        }
        n_photos = [max(len(sale.images), 1) for sale in self.sales]
        layout = RecordLayout(manifest.policies, manifest.k, len(manifest.reasons), n_photos)
        self.users: Users = MappedUsers(path, layout) if users is None else users(layout)

    @classmethod
    def open(cls, path: Path, verify: bool = True, users: Callable[[RecordLayout], Users] | None = None) -> "Snapshot":
        """Open a snapshot.

        Args:
            path: The snapshot's folder.
            verify: Compare the checksum of each file too, which reads all of it.
            users: Returns the users whose records have a layout, if they do not lie in the folder.

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
        except OSError as error:  # pruned at this very moment
            raise SnapshotError(f"{path} cannot be read ({error}): choose another snapshot, or {_AGAIN}") from None

    @cached_property
    def all_policies(self) -> tuple[str, ...]:
        """The names of all policies, in ascending order."""
        return tuple(sorted({*self.policies, *self.shared_rankings}))

    def ranking(self, policy: str, user_id: str) -> Ranking | None:
        """Return a policy's ranking for a user, as views; None if a personal policy has no row for him.

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
        """Return the path of a file or folder carried inside.

        Raises:
            SnapshotError: If there is none of this name.
        """
        path = self.path / "files" / name
        if not path.exists():
            raise SnapshotError(f"{path} is missing, snapshot {self.name} was written without it: {_AGAIN}")
        return path


def sales_to_json(sales: Sequence[SnapshotSale]) -> str:
    """Return sales as JSON; instants are microseconds."""
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
    policies = {policy: _columns(ranking) for policy, ranking in contents.shared_rankings.items()}
    segments = {
        attribute: {value: _columns(ranking) for value, ranking in rows.items()}
        for attribute, rows in contents.segments.items()
    }
    return json.dumps({"policies": policies, "segments": segments}, ensure_ascii=False, allow_nan=False)


def _columns(ranking: SharedRanking) -> dict[str, list[float]]:
    return {name: np.asarray(values).tolist() for name, values in Ranking(*ranking)._asdict().items()}


def _ranking(columns: Mapping[str, list[float]]) -> Ranking:
    kinds = {"sales": np.int64, "scores": np.float32, "reasons": np.uint8, "covers": np.uint8}
    return Ranking(**{name: np.array(columns[name], kind) for name, kind in kinds.items()})


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _check_size(file: Path, entry: FileEntry) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise SnapshotError(f"{file} cannot be read ({error.strerror}), the manifest lists it: {_AGAIN}") from None
    if size != entry.size:
        raise SnapshotError(f"{file} has {size} bytes, must have {entry.size} by the manifest: {_AGAIN}")


def _check_checksum(file: Path, entry: FileEntry) -> None:
    try:
        sha256 = describe(file).sha256
    except OSError as error:
        raise SnapshotError(f"{file} cannot be read ({error.strerror}): check the disk, or {_AGAIN}") from None
    if sha256 != entry.sha256:
        raise SnapshotError(f"{file}: sha256 == {sha256}, must be {entry.sha256} by the manifest: {_AGAIN}")
