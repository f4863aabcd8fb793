"""The users of a snapshot: how their rankings and histories are found, packed and unpacked.

A ranking of k sales takes 8 + 6 k bytes: scores are quantised to 16-bit steps between the user's lowest and highest
score, with an error below a 100,000th of that range. An event of a history takes 8 bytes.
"""

import hashlib
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.compiled import compiled
from recsys.errors import DamagedRecordError
from recsys.meta_model import is_meta

HASHES = np.dtype("<u8")
ROWS = np.dtype("<u4")
OFFSETS = np.dtype("<u8")
EVENTS = np.dtype([("sales", "<u4"), ("ages", "<u4")])
"""An event of a history; the highest bit of its age is set for a purchase."""

_WORD = np.dtype("<u4")
_PURCHASE = np.uint32(1 << 31)
_AGE = (1 << 31) - 1
"""The bits of an event's age."""
_STEPS = 65_535
_MOST_FLOAT32 = float(np.finfo(np.float32).max)
_MOST_LOG_ODDS = 700.0
"""Beyond it, exp() overflows: a float64 holds no such probability."""
_ADVICE = "write the snapshot again with 'recsys nightly'"


class _RankingArrays(NamedTuple):
    sales: NDArray[np.integer[Any]]
    """Positions in the snapshot's sales, each at most once."""
    scores: NDArray[np.float32]
    """The policy's score of each sale; finite."""
    reasons: NDArray[np.uint8]
    """Positions in the snapshot's reasons: the largest contribution to each score."""
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
        """Return a ranking; without `covers`, the photo of each sale is its cover."""
        return super().__new__(
            cls, sales, scores, reasons, np.zeros(np.shape(sales), np.uint8) if covers is None else covers
        )


class History(NamedTuple):
    """A user's events before `as_of`, the latest last."""

    sales: NDArray[np.int32]
    """Positions in the catalogue of the night."""
    ages: NDArray[np.int32]
    """Seconds from the event to `as_of`, at least 0."""
    purchases: NDArray[np.bool_]


Place = tuple[int, float, int, int]
"""A ranked sale: its position in the snapshot's sales, score, position of the reason, position of the photo."""


class User(Protocol):
    """One user of a snapshot."""

    def places(self, policy: str) -> Iterator[Place]:
        """Return the user's ranking by one of the personal policies, best first.

        Raises:
            DamagedRecordError: If its record holds an impossible value.
        """
        ...

    def ranking(self, policy: str) -> Ranking:
        """Return the user's ranking by one of the personal policies, not checked."""
        ...

    def history(self) -> History:
        """Return the events that the snapshot holds of the user.

        Raises:
            DamagedRecordError: If their offsets are outside the file.
        """
        ...

    def purchases_within(self, seconds: float) -> list[int]:
        """Return the sales, positions in the catalogue of the night, of purchases in the seconds before `as_of`.

        Raises:
            DamagedRecordError: If their offsets are outside the file.
        """
        ...


class Users(Protocol):
    """All users of a snapshot; any number of threads may ask."""

    def find(self, user_id: str) -> User | None:
        """Return a user; None for one without a ranking.

        Raises:
            DamagedRecordError: If the index of users, or a packed record, is damaged.
        """
        ...

    def sample(self, count: int) -> Sequence[str]:
        """Return the ids of at most `count` users."""
        ...


def ranking_type(n_sales: int, k: int) -> np.dtype[np.void]:
    """Return the dtype of the record of a ranking of k sales, out of n_sales."""
    position = "<u2" if n_sales <= 1 << 16 else "<u4"
    lists = {"levels": "<u2", "sales": position, "reasons": "u1", "covers": "u1"}
    return np.dtype([("low", "<f4"), ("high", "<f4"), *((name, kind, (k,)) for name, kind in lists.items())])


def pack_rankings(rankings: Ranking, n_sales: int) -> NDArray[np.void]:
    """Return one record per row of rankings of shape (n_users, k)."""
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


class RecordLayout(NamedTuple):
    """The layout of the users' records of one snapshot, and the limits of their values."""

    policies: Sequence[str]
    """The policies that rank for each user, in the order of their rankings."""
    k: int
    """Number of sales in each ranking."""
    n_reasons: int
    n_photos: Sequence[int]
    """Number of photos of each sale of the snapshot; 1 also for a sale without photos, whose position is 0."""

    @property
    def record(self) -> np.dtype[np.void]:
        """The dtype of the record of a ranking."""
        return ranking_type(len(self.n_photos), self.k)


class RankingCodec:
    """Unpacks the rankings of one policy without an array: checks all values, computes scores as they are read."""

    def __init__(self, layout: RecordLayout, policy: str):
        self._policy = policy
        self._k = k = layout.k
        self._reasons = bytes(range(layout.n_reasons))
        self._n_photos = layout.n_photos
        self._most = _MOST_LOG_ODDS if is_meta(policy) else _MOST_FLOAT32
        self._record = struct.Struct(f"<ff{k}H{k}{'H' if len(layout.n_photos) <= 1 << 16 else 'I'}{k}s{k}s")
        self.size = self._record.size

    def places(self, data: bytes | memoryview, start: int) -> Iterator[Place]:
        """Return the ranking whose record starts at a byte.

        Raises:
            DamagedRecordError: If it holds a sale twice, or an impossible sale, reason, photo or score.
        """
        k, n_photos = self._k, self._n_photos
        values = self._record.unpack_from(data, start)
        low, high = values[:2]
        sales, reasons, covers = values[k + 2 : -2], values[-2], values[-1]
        try:
            is_whole = (
                -self._most <= low <= high <= self._most  # false for nan, too
                and len(set(sales)) == k
                and not reasons.translate(None, self._reasons)  # what is left once all known reasons are removed
                and not [sale for sale, cover in zip(sales, covers, strict=True) if cover >= n_photos[sale]]
            )
        except IndexError:  # no such sale; a check of each beforehand would cost every page a microsecond
            is_whole = False
        if not is_whole:
            raise DamagedRecordError(self._damage_message(low, high, sales, reasons, covers))
        step = (high - low) / _STEPS
        scores = (low + level * step for level in values[2 : k + 2])
        return zip(sales, scores, reasons, covers, strict=True)

    def _damage_message(self, low: float, high: float, sales: Sequence[int], reasons: bytes, covers: bytes) -> str:
        """Return the message about the first value that breaks a rule."""
        n_sales = len(self._n_photos)
        if not -self._most <= low <= high <= self._most:
            problem = f"scores from {low:g} to {high:g}, must ascend within {-self._most:g}..{self._most:g}"
        elif len(set(sales)) < self._k:
            problem = "a sale twice, must hold each once"
        elif max(sales) >= n_sales:
            problem = f"sale {max(sales)}, must be below {n_sales}"
        elif max(reasons) >= len(self._reasons):
            problem = f"reason {max(reasons)}, must be below {len(self._reasons)}"
        else:
            sale, cover = next(pair for pair in zip(sales, covers, strict=True) if pair[1] >= self._n_photos[pair[0]])
            problem = f"photo {cover} of sale {sale}, must be below {self._n_photos[sale]}"
        return f"a user's ranking by {self._policy} holds {problem}: {_ADVICE}"


def pack_history(sales: NDArray[np.integer], ages: NDArray[np.integer], purchases: NDArray[np.bool_]) -> NDArray:
    """Return one record per event; ages are in seconds, below 68 years."""
    events = np.empty(len(sales), EVENTS)
    events["sales"] = sales
    events["ages"] = np.clip(ages, 0, _PURCHASE - 1).astype(np.uint32) | np.where(purchases, _PURCHASE, np.uint32(0))
    return events


def unpack_history(events: NDArray[np.void]) -> History:
    """Return the history of the records of a user."""
    return History(*_unpack(events.view(_WORD)))


@compiled
def _unpack(words: NDArray[np.uint32]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Return sale, age and whether it is a purchase of each event, two words per event."""
    n_events = len(words) // 2
    sales, ages, purchases = np.empty(n_events, np.int32), np.empty(n_events, np.int32), np.empty(n_events, np.bool_)
    for event in range(n_events):
        sales[event] = words[2 * event]
        ages[event] = words[2 * event + 1] & np.uint32(_AGE)
        purchases[event] = words[2 * event + 1] >= _PURCHASE
    return sales, ages, purchases


def user_hash(user_id: bytes) -> int:
    """Return the 64-bit hash of a user id, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(user_id, digest_size=8).digest(), "little")


def encode_user(user_id: str) -> bytes:
    """Return a user id as bytes; equal ids have equal bytes."""
    return user_id.encode("utf-8", "surrogatepass")


class UserIndex:
    """Finds a user's row by the hash of the user id, and compares the id itself."""

    def __init__(self, folder: Path):
        self._hashes = _mapped_view(folder / "user_hashes.bin", HASHES)
        self._rows = _mapped_view(folder / "user_rows.bin", ROWS)
        self._offsets = _mapped_view(folder / "user_id_offsets.bin", OFFSETS)
        self._ids = _mapped_view(folder / "user_ids.bin", np.dtype("u1"))

    def __len__(self) -> int:
        """Number of users."""
        return len(self._hashes)

    def row(self, user_id: bytes) -> int | None:
        """Return the row of a user; None for a user without one.

        Raises:
            DamagedRecordError: If the index names a row that does not exist.
        """
        wanted = user_hash(user_id)
        position = bisect_left(self._hashes, wanted)
        while position < len(self._hashes) and self._hashes[position] == wanted:
            row = self._rows[position]
            if row >= len(self):
                raise DamagedRecordError(f"a user's row == {row}, must be below {len(self)}: {_ADVICE}")
            if self.user_id(row) == user_id:
                return row
            position += 1
        return None

    def user_id(self, row: int) -> bytes:
        """Return the id of the user of a row."""
        return self._ids[self._offsets[row] : self._offsets[row + 1]].tobytes()


class MappedUsers:
    """The users in the memory-mapped files of a snapshot."""

    def __init__(self, folder: Path, layout: RecordLayout):
        self.index = UserIndex(folder)
        self.layout = layout
        self._codecs = {policy: RankingCodec(layout, policy) for policy in layout.policies}
        self._records = {policy: mapped(folder / f"ranking_{policy}.bin", layout.record) for policy in layout.policies}
        self._data = {policy: memoryview(records.view("u1").data) for policy, records in self._records.items()}
        self._offsets = _mapped_view(folder / "history_offsets.bin", OFFSETS)
        self._events = mapped(folder / "history_events.bin", EVENTS)
        self._words = memoryview(self._events.view("<u4").data)

    def find(self, user_id: str) -> "MappedUser | None":
        """Return a user; None for one without a ranking."""
        row = self.index.row(encode_user(user_id))
        return None if row is None else self.at(row)

    def sample(self, count: int) -> Sequence[str]:
        """Return the ids of at most `count` users, evenly spaced over the files."""
        rows = np.linspace(0, max(len(self.index) - 1, 0), min(count, len(self.index))).astype(int).tolist()
        return [self.index.user_id(row).decode("utf-8", "surrogatepass") for row in rows]

    def at(self, row: int) -> "MappedUser":
        """Return the user of a row."""
        return MappedUser(self, row)

    def places(self, policy: str, row: int) -> Iterator[Place]:
        """Return the ranking of a row."""
        codec = self._codecs[policy]
        return codec.places(self._data[policy], row * codec.size)

    def record(self, policy: str, row: int) -> np.void:
        """Return the record of the ranking of a row."""
        return self._records[policy][row]

    def events(self, row: int) -> NDArray[np.void]:
        """Return the records of the events of a row.

        Raises:
            DamagedRecordError: If their offsets are outside the file.
        """
        start, end = self._range_of_events(row)
        return self._events[start:end]

    def purchases_within(self, row: int, seconds: float) -> list[int]:
        """Return the sales of a row's purchases in the seconds before `as_of`, read from the latest event back."""
        start, end = self._range_of_events(row)
        words, sales = self._words, []
        for event in range(end - 1, start - 1, -1):
            age = words[2 * event + 1]
            if age & _AGE > seconds:
                break
            if age > _AGE:
                sales.append(words[2 * event])
        return sales

    def _range_of_events(self, row: int) -> tuple[int, int]:
        start, end = self._offsets[row], self._offsets[row + 1]
        if not start <= end <= len(self._events):
            rule = f"must ascend up to {len(self._events)}"
            raise DamagedRecordError(f"a user's events start at {start} and end at {end}, {rule}: {_ADVICE}")
        return start, end


class MappedUser(NamedTuple):
    """A user in the memory-mapped files of a snapshot."""

    users: MappedUsers
    row: int

    def places(self, policy: str) -> Iterator[Place]:
        """Return the user's ranking by one of the personal policies, best first."""
        return self.users.places(policy, self.row)

    def ranking(self, policy: str) -> Ranking:
        """Return the user's ranking by one of the personal policies, not checked."""
        return unpack_ranking(self.users.record(policy, self.row))

    def history(self) -> History:
        """Return the events that the snapshot holds of the user."""
        return unpack_history(self.users.events(self.row))

    def purchases_within(self, seconds: float) -> list[int]:
        """Return the sales of purchases in the seconds before `as_of`."""
        return self.users.purchases_within(self.row, seconds)


class UserPacking:
    """Packs and unpacks a user of a snapshot as one byte string, for stores that hold one value per user."""

    def __init__(self, layout: RecordLayout):
        self.layout = layout
        self.record = layout.record
        self.codecs = [RankingCodec(layout, policy) for policy in layout.policies]

    def pack(self, users: MappedUsers, row: int) -> bytes:
        """Return the rankings in the order of the policies, the history, and their CRC-32."""
        rankings = [users.record(policy, row).tobytes() for policy in self.layout.policies]
        data = b"".join([*rankings, users.events(row).tobytes()])
        return data + zlib.crc32(data).to_bytes(4, "little")

    def unpack(self, data: bytes) -> "PackedUser":
        """Return the user of packed bytes.

        Raises:
            DamagedRecordError: If their length or their checksum is wrong.
        """
        start = len(self.layout.policies) * self.record.itemsize
        events, rest = divmod(len(data) - start - 4, EVENTS.itemsize)
        if events < 0 or rest or zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
            raise DamagedRecordError("a user's record is damaged: push the snapshot again with 'recsys snapshots push'")
        return PackedUser(self, data)


class PackedUser(NamedTuple):
    """A user in packed bytes, whose checksum is right."""

    packing: UserPacking
    data: bytes

    def places(self, policy: str) -> Iterator[Place]:
        """Return the user's ranking by one of the personal policies, best first."""
        number = self.packing.layout.policies.index(policy)
        codec = self.packing.codecs[number]
        return codec.places(self.data, number * codec.size)

    def ranking(self, policy: str) -> Ranking:
        """Return the user's ranking by one of the personal policies, not checked."""
        record = self.packing.record
        start = self.packing.layout.policies.index(policy) * record.itemsize
        return unpack_ranking(np.frombuffer(self.data, record, 1, start)[0])

    def history(self) -> History:
        """Return the events that the snapshot holds of the user."""
        start = len(self.packing.layout.policies) * self.packing.record.itemsize
        count = (len(self.data) - start - 4) // EVENTS.itemsize
        return unpack_history(np.frombuffer(self.data, EVENTS, count, start))

    def purchases_within(self, seconds: float) -> list[int]:
        """Return the sales of purchases in the seconds before `as_of`."""
        sales, ages, purchases = self.history()
        return sales[purchases & (ages <= seconds)].tolist()


def _mapped_view(file: Path, dtype: np.dtype[Any]) -> memoryview:
    """Return a memory-mapped file as a memoryview: reading single elements costs less than from an array."""
    return memoryview(mapped(file, dtype).data)


def mapped(file: Path, dtype: np.dtype[Any]) -> np.ndarray:
    """Return a memory-mapped file as an array of one dimension."""
    if not file.stat().st_size:  # an empty file cannot be mapped
        return np.empty(0, dtype)
    # A plain view: indexing a np.memmap costs 10 times as much.
    return np.memmap(file, dtype, "r").view(np.ndarray)
