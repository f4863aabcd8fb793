"""The snapshot format: one folder that answers every home page of a horizon, read without Spark or Arrow.

    <name>/manifest.json           what made it, counts, and the size and SHA-256 of every other file
           sales.json              the sales of the horizon; a ranking holds positions in this list
           user_hashes.bin         the 64-bit hashes of the user ids, ascending
           user_rows.bin           the row of each of these users
           user_id_offsets.bin     where the id of each row starts in user_ids.bin
           user_ids.bin            the ids, UTF-8, end to end: they tell users with the same hash apart
           ranking_<policy>.bin    one record a row: scores, sales, reasons, covers, best first
           shared_<policy>.bin     one record for all users
           files/...               model data, as it was given

A user's record lies in one place, so that a look-up that misses the page cache reads the disk once. Sales
take two bytes while there are at most 65,536 of them: a user with 12 characters of id and 30 sales takes 32
bytes, and 240 for each policy.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from recsys.errors import SnapshotError
from recsys.instants import from_micros, to_micros

FORMAT = 2
MANIFEST = "manifest.json"
SALES = "sales.json"
POPULARITY = "popularity"
"""The shared ranking that every snapshot has."""
MAX_IMAGES = 256
"""Photos of a sale: the position of one takes a byte."""

HASHES = np.dtype("<u8")
ROWS = np.dtype("<u4")
OFFSETS = np.dtype("<u8")

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


class _RankingArrays(NamedTuple):
    sales: NDArray[np.integer[Any]]
    """Positions in the snapshot's sales, each at most once."""
    scores: NDArray[np.float32]
    """What the policy thinks of each sale; finite."""
    reasons: NDArray[np.uint8]
    """Positions in the snapshot's reasons: what speaks most for each sale."""
    covers: NDArray[np.uint8]
    """Positions in each sale's images: the photo to show; 0 also where the sale has none."""


class Ranking(_RankingArrays):
    """Sales, best first; the four arrays have the same shape."""

    __slots__ = ()

    def __new__(
        cls,
        sales: NDArray[np.integer[Any]],
        scores: NDArray[np.float32],
        reasons: NDArray[np.uint8],
        covers: NDArray[np.uint8] | None = None,
    ) -> "Ranking":
        """Make a ranking; without `covers`, each sale is shown by its cover."""
        return super().__new__(
            cls, sales, scores, reasons, np.zeros(np.shape(sales), np.uint8) if covers is None else covers
        )


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
    """What made the snapshot, such as {"home_ranker": "3"}."""
    fingerprint: str
    """Of all inputs and settings; at least 8 letters and digits."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Model data to carry inside: a name for each file or folder."""


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
    shared_policies: dict[str, int]
    """Sales in each shared ranking."""
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


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a snapshot, and check its format and the sizes of all files.

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
        _check_size(path / name, entry)
    return manifest


def describe(file: Path) -> FileEntry:
    """Measure a file for the manifest."""
    with file.open("rb") as stream:
        return FileEntry(size=file.stat().st_size, sha256=hashlib.file_digest(stream, "sha256").hexdigest())


def user_hash(user_id: bytes) -> int:
    """Hash a user id to 64 bits, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(user_id, digest_size=8).digest(), "little")


def encode_user(user_id: str) -> bytes:
    """Return the bytes by which a user id is compared."""
    return user_id.encode("utf-8", "surrogatepass")


def ranking_type(n_sales: int, k: int) -> np.dtype[np.void]:
    """Return the record of a ranking of k of n sales."""
    position = "<u2" if n_sales <= 1 << 16 else "<u4"
    fields = {"scores": "<f4", "sales": position, "reasons": "u1", "covers": "u1"}
    return np.dtype([(name, kind, (k,)) for name, kind in fields.items()], align=True)


class UserIndex:
    """Finds a user's row by the hash of his id; the id itself decides."""

    def __init__(self, folder: Path):
        self._hashes = mapped(folder / "user_hashes.bin", HASHES)
        self._rows = mapped(folder / "user_rows.bin", ROWS)
        self._offsets = mapped(folder / "user_id_offsets.bin", OFFSETS)
        self._ids = mapped(folder / "user_ids.bin", np.dtype("u1"))

    def row(self, user_id: bytes) -> int | None:
        """Return the row of a user; None for a user without one."""
        wanted = np.uint64(user_hash(user_id))
        position = int(self._hashes.searchsorted(wanted))
        while position < len(self._hashes) and self._hashes[position] == wanted:
            row = int(self._rows[position])
            if self.user_id(row) == user_id:
                return row
            position += 1
        return None

    def user_id(self, row: int) -> bytes:
        """Return the id of the user of a row."""
        return self._ids[int(self._offsets[row]) : int(self._offsets[row + 1])].tobytes()


class Snapshot:
    """One snapshot, memory-mapped and immutable: any number of threads may read it."""

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self.name = path.name
        self.manifest = manifest
        self.as_of: datetime = manifest.as_of
        self.horizon_end: datetime = manifest.horizon_end
        self.policies = manifest.policies
        self.reasons = manifest.reasons
        self.versions = manifest.versions
        self.fingerprint = manifest.fingerprint
        self.k = manifest.k
        self.sales = _read_sales(path / SALES)
        self.opens_at = np.array([to_micros(sale.opens_at) for sale in self.sales], np.int64)
        self.closes_at = np.array([to_micros(sale.closes_at) for sale in self.sales], np.int64)
        self.shared_rankings = {
            policy: _row(_rankings(path / f"shared_{policy}.bin", 1, ranking_type(len(self.sales), length)), 0)
            for policy, length in manifest.shared_policies.items()
        }
        self._users = UserIndex(path)
        record = ranking_type(len(self.sales), manifest.k)
        self._rankings = {
            policy: _rankings(path / f"ranking_{policy}.bin", manifest.n_users, record) for policy in manifest.policies
        }

    @classmethod
    def open(cls, path: Path, verify: bool = True) -> "Snapshot":
        """Open a snapshot.

        Args:
            path: The snapshot's folder.
            verify: Compare the checksum of each file too, which reads all of it.

        Raises:
            SnapshotError: If a file is missing, has another size or checksum, or the format is another one.
        """
        manifest = read_manifest(path)
        if verify:
            for name, entry in manifest.files.items():
                _check_checksum(path / name, entry)
        try:
            return cls(path, manifest)
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
        if policy not in self._rankings:
            raise SnapshotError(
                f"policy == {policy!r}, must be one of snapshot {self.name}: {', '.join(self.all_policies)}"
            )
        row = self._users.row(encode_user(user_id))
        return None if row is None else _row(self._rankings[policy], row)

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
        )
        for row in rows
    )


def mapped(file: Path, dtype: np.dtype[Any]) -> np.ndarray:
    """Map a file into memory as an array of one dimension."""
    if not file.stat().st_size:  # an empty file cannot be mapped
        return np.empty(0, dtype)
    # A plain view: indexing a np.memmap costs 10 times as much.
    return np.memmap(file, dtype, "r").view(np.ndarray)


def _rankings(file: Path, n_users: int, record: np.dtype[np.void]) -> Ranking:
    # Rankings of no sale take no bytes: their records cannot be mapped.
    records = mapped(file, record) if record.itemsize else np.zeros(n_users, record)
    return Ranking(records["sales"], records["scores"], records["reasons"], records["covers"])


def _row(rankings: Ranking, row: int) -> Ranking:
    # Rows of four arrays: taking four fields of one record takes twice as long.
    sales, scores, reasons, covers = rankings
    return Ranking(sales[row], scores[row], reasons[row], covers[row])


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
