"""The users of a snapshot: where each one's rankings and history lie, and how they are packed.

A ranking of k sales takes 8 + 6 k bytes: scores are 16-bit steps between the lowest and the highest of the user, which
moves a score by less than a 100,000th of their range. An event of a history takes 8 bytes.
"""

import hashlib
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.errors import SnapshotError

HASHES = np.dtype("<u8")
ROWS = np.dtype("<u4")
OFFSETS = np.dtype("<u8")
EVENTS = np.dtype([("sales", "<u4"), ("ages", "<u4")])
"""An event of a history; the highest bit of its age tells a purchase."""

_PURCHASE = np.uint32(1 << 31)
_STEPS = 65_535


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


class History(NamedTuple):
    """A user's events before `as_of`, the latest last."""

    sales: NDArray[np.int32]
    """Positions in the catalogue that the night knew."""
    ages: NDArray[np.int32]
    """Seconds before `as_of`, at least 0."""
    purchases: NDArray[np.bool_]


Place = tuple[int, float, int, int]
"""Position of a sale, what the policy thinks of it, position of the reason, position of the photo."""


class User(Protocol):
    """One user of a snapshot."""

    def places(self, policy: str) -> Iterator[Place]:
        """Return his ranking by one of the personal policies, best first, unpacked as far as it is read."""
        ...

    def ranking(self, policy: str) -> Ranking:
        """Return his ranking by one of the personal policies."""
        ...

    def history(self) -> History:
        """Return the events that the snapshot holds of him."""
        ...


class Users(Protocol):
    """All users of a snapshot; any number of threads may ask."""

    def find(self, user_id: str) -> User | None:
        """Return a user; None for one without a ranking."""
        ...

    def sample(self, count: int) -> Sequence[str]:
        """Return the ids of some users, at most so many."""
        ...


def ranking_type(n_sales: int, k: int) -> np.dtype[np.void]:
    """Return the record of a ranking of k of n sales."""
    position = "<u2" if n_sales <= 1 << 16 else "<u4"
    lists = {"levels": "<u2", "sales": position, "reasons": "u1", "covers": "u1"}
    return np.dtype([("low", "<f4"), ("high", "<f4"), *((name, kind, (k,)) for name, kind in lists.items())])


def pack_rankings(rankings: Ranking, n_sales: int) -> NDArray[np.void]:
    """Return one record for each row of rankings, shape (n_users, k)."""
    # Zeros, so that the padding at the end of a record, and with it the checksum, is always the same.
    records = np.zeros(len(rankings.sales), ranking_type(n_sales, rankings.sales.shape[1]))
    if rankings.sales.size:
        scores = rankings.scores.astype(np.float64)
        low, high = scores.min(axis=1), scores.max(axis=1)
        records["low"], records["high"] = low, high
        range_ = np.where(high > low, high - low, 1)
        records["levels"] = np.rint((scores - low[:, None]) / range_[:, None] * _STEPS)
        records["sales"], records["reasons"], records["covers"] = rankings.sales, rankings.reasons, rankings.covers
    return records


def unpack_ranking(record: NDArray[np.void] | np.void) -> Ranking:
    """Return the ranking of a record."""
    low, high = float(record["low"]), float(record["high"])  # in float32 a narrow range far from 0 would be lost
    scores = record["levels"] * ((high - low) / _STEPS) + low
    return Ranking(record["sales"], scores.astype(np.float32), record["reasons"], record["covers"])


class RankingCodec:
    """Unpacks rankings of k of n sales, scores as far as they are read, without an array."""

    def __init__(self, n_sales: int, k: int):
        self._k = k
        self._record = struct.Struct(f"<ff{k}H{k}{'H' if n_sales <= 1 << 16 else 'I'}{k}B{k}B")
        self.size = self._record.size

    def places(self, data: bytes | memoryview, start: int) -> Iterator[Place]:
        """Return the ranking whose record starts at a byte.

        Raises:
            SnapshotError: If it holds a sale twice, or a score that is no number.
        """
        k = self._k
        values = self._record.unpack_from(data, start)
        low, high = values[:2]
        sales = values[k + 2 : 2 * k + 2]
        if len(set(sales)) < k or not isfinite(high - low):
            raise SnapshotError("a user's ranking holds a sale twice, or a score that is no number")
        step = (high - low) / _STEPS
        scores = (low + level * step for level in values[2 : k + 2])
        return zip(sales, scores, values[2 * k + 2 : 3 * k + 2], values[3 * k + 2 :], strict=True)


def pack_history(sales: NDArray[np.integer], ages: NDArray[np.integer], purchases: NDArray[np.bool_]) -> NDArray:
    """Return one record an event; ages are seconds, below 68 years."""
    events = np.empty(len(sales), EVENTS)
    events["sales"] = sales
    events["ages"] = np.clip(ages, 0, _PURCHASE - 1).astype(np.uint32) | np.where(purchases, _PURCHASE, np.uint32(0))
    return events


def unpack_history(events: NDArray[np.void]) -> History:
    """Return the history of the records of a user."""
    ages = events["ages"]
    return History(events["sales"].astype(np.int32), (ages & (_PURCHASE - 1)).astype(np.int32), ages >= _PURCHASE)


def user_hash(user_id: bytes) -> int:
    """Hash a user id to 64 bits, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(user_id, digest_size=8).digest(), "little")


def encode_user(user_id: str) -> bytes:
    """Return the bytes by which a user id is compared."""
    return user_id.encode("utf-8", "surrogatepass")


class UserIndex:
    """Finds a user's row by the hash of his id; the id itself decides."""

    def __init__(self, folder: Path):
        self._hashes = _viewed(folder / "user_hashes.bin", HASHES)
        self._rows = _viewed(folder / "user_rows.bin", ROWS)
        self._offsets = _viewed(folder / "user_id_offsets.bin", OFFSETS)
        self._ids = _viewed(folder / "user_ids.bin", np.dtype("u1"))

    def __len__(self) -> int:
        """Number of users."""
        return len(self._hashes)

    def row(self, user_id: bytes) -> int | None:
        """Return the row of a user; None for a user without one."""
        wanted = user_hash(user_id)
        position = bisect_left(self._hashes, wanted)
        while position < len(self._hashes) and self._hashes[position] == wanted:
            row = self._rows[position]
            if self.user_id(row) == user_id:
                return row
            position += 1
        return None

    def user_id(self, row: int) -> bytes:
        """Return the id of the user of a row."""
        return self._ids[self._offsets[row] : self._offsets[row + 1]].tobytes()


class MappedUsers:
    """The users in the memory-mapped files of a snapshot."""

    def __init__(self, folder: Path, policies: Sequence[str], n_sales: int, k: int):
        self.index = UserIndex(folder)
        record = ranking_type(n_sales, k)
        self._codec = RankingCodec(n_sales, k)
        self._records = {policy: mapped(folder / f"ranking_{policy}.bin", record) for policy in policies}
        self._data = {policy: memoryview(records.view("u1").data) for policy, records in self._records.items()}
        self._offsets = mapped(folder / "history_offsets.bin", OFFSETS)
        self._events = mapped(folder / "history_events.bin", EVENTS)

    def find(self, user_id: str) -> "MappedUser | None":
        """Return a user; None for one without a ranking."""
        row = self.index.row(encode_user(user_id))
        return None if row is None else self.at(row)

    def sample(self, count: int) -> Sequence[str]:
        """Return the ids of some users, at most so many, from all over the files."""
        rows = np.linspace(0, max(len(self.index) - 1, 0), min(count, len(self.index))).astype(int).tolist()
        return [self.index.user_id(row).decode("utf-8", "surrogatepass") for row in rows]

    def at(self, row: int) -> "MappedUser":
        """Return the user of a row."""
        return MappedUser(self, row)

    def places(self, policy: str, row: int) -> Iterator[Place]:
        """Return the ranking of a row."""
        return self._codec.places(self._data[policy], row * self._codec.size)

    def record(self, policy: str, row: int) -> np.void:
        """Return the record of the ranking of a row."""
        return self._records[policy][row]

    def events(self, row: int) -> NDArray[np.void]:
        """Return the records of the events of a row."""
        return self._events[int(self._offsets[row]) : int(self._offsets[row + 1])]


class MappedUser(NamedTuple):
    """A row of the files."""

    users: MappedUsers
    row: int

    def places(self, policy: str) -> Iterator[Place]:
        """Return his ranking by one of the personal policies, unpacked as far as it is read."""
        return self.users.places(policy, self.row)

    def ranking(self, policy: str) -> Ranking:
        """Return his ranking by one of the personal policies."""
        return unpack_ranking(self.users.record(policy, self.row))

    def history(self) -> History:
        """Return the events that the snapshot holds of him."""
        return unpack_history(self.users.events(self.row))


class UserPacking:
    """A user of a snapshot as one piece of bytes, for stores that keep users one by one."""

    def __init__(self, policies: Sequence[str], n_sales: int, k: int):
        self._policies = policies
        self._record = ranking_type(n_sales, k)
        self._codec = RankingCodec(n_sales, k)

    def pack(self, users: MappedUsers, row: int) -> bytes:
        """Return the rankings in the order of the policies, the history, and their CRC-32."""
        rankings = [users.record(policy, row).tobytes() for policy in self._policies]
        data = b"".join([*rankings, users.events(row).tobytes()])
        return data + zlib.crc32(data).to_bytes(4, "little")

    def unpack(self, data: bytes) -> "PackedUser":
        """Return the user of some bytes.

        Raises:
            SnapshotError: If they are damaged.
        """
        start = len(self._policies) * self._record.itemsize
        events, rest = divmod(len(data) - start - 4, EVENTS.itemsize)
        if events < 0 or rest or zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
            raise SnapshotError("a user's record is damaged: push the snapshot again with 'recsys snapshots push'")
        return PackedUser(self._policies, self._codec, self._record, data)


class PackedUser(NamedTuple):
    """A user in one piece of bytes, which are sound."""

    policies: Sequence[str]
    codec: RankingCodec
    record: np.dtype[np.void]
    data: bytes

    def places(self, policy: str) -> Iterator[Place]:
        """Return his ranking by one of the personal policies, unpacked as far as it is read."""
        return self.codec.places(self.data, self.policies.index(policy) * self.codec.size)

    def ranking(self, policy: str) -> Ranking:
        """Return his ranking by one of the personal policies."""
        start = self.policies.index(policy) * self.codec.size
        return unpack_ranking(np.frombuffer(self.data, self.record, 1, start)[0])

    def history(self) -> History:
        """Return the events that the snapshot holds of him."""
        start = len(self.policies) * self.codec.size
        count = (len(self.data) - start - 4) // EVENTS.itemsize
        return unpack_history(np.frombuffer(self.data, EVENTS, count, start))


def _viewed(file: Path, dtype: np.dtype[Any]) -> memoryview:
    """Map a file into memory, for reading element by element: an array would wrap each in an object of its own."""
    return memoryview(mapped(file, dtype).data)


def mapped(file: Path, dtype: np.dtype[Any]) -> np.ndarray:
    """Map a file into memory as an array of one dimension."""
    if not file.stat().st_size:  # an empty file cannot be mapped
        return np.empty(0, dtype)
    # A plain view: indexing a np.memmap costs 10 times as much.
    return np.memmap(file, dtype, "r").view(np.ndarray)
