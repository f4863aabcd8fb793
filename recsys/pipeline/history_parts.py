"""events → user_histories: each part by one worker, anew or from that of an earlier night.

Spark brings the events of a user together, by a hash of the id alone: it sorts numbers without comparing rows. Its
Python workers put each user's events in order, and write one part each, users in the order of the hash. So the events
of some days can be put into a part of an earlier night, in place of those that it has of these days, by one pass over
both. What is written is what `user_histories` returns.
"""

import json
import secrets
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as f
from pyspark.sql.pandas.types import to_arrow_schema

from recsys.instants import DAY
from recsys.pipeline.histories import events_of_catalogue
from recsys.shop.catalogue import Catalogue
from recsys.storage.places import Place, absolute
from recsys.tables.night import USER_HISTORIES
from recsys.tables.parts import Part, PartWriter, read_part, write_list

_BATCH_USERS = 20_000
"""Users in a batch that is written, whatever batches were read, so that a part always has the same bytes."""
_LISTS = {"sales": "position", "purchases": "purchase", "occurred_at": "occurred_at", "recorded_at": "recorded_at"}
"""The lists of table `user_histories`, and what an event calls them."""


@dataclass(frozen=True)
class EarlierHistories:
    """Histories of an earlier night, and what of them is to change."""

    table: Place
    parts: tuple[str, ...]
    """The name of each task's part."""
    days: tuple[int, ...]
    """Days since 1970 whose events are given anew."""
    positions: tuple[int, ...]
    """The new position of each sale of the earlier catalogue, ascending; -1 for a sale that is gone."""


def write_histories(
    events: DataFrame, catalogue: Catalogue, table: Place, partitions: int, earlier: EarlierHistories | None = None
) -> None:
    """Write table `user_histories`; the same events give the same bytes of each part.

    Args:
        events: Table `events`; with earlier histories only the days that are to be anew.
        catalogue: The sales.
        table: Folder of the table.
        partitions: Number of parts, that of the earlier histories.
        earlier: Histories to carry on.
    """
    rows = events_of_catalogue(events, catalogue)
    in_order = rows.repartition(partitions, "user_id").sortWithinPartitions(f.crc32(f.col("user_id").cast("binary")))
    if isinstance(table, Path):
        table.mkdir(parents=True, exist_ok=True)
    write = partial(_write_task, table=absolute(table), earlier=earlier)
    parts = _parts_in(in_order.mapInArrow(write, "part string"))
    # Spark has no tasks for what it finds to be empty.
    if missing := sorted(set(range(partitions)) - {_number_of(part.name) for part in parts}):
        numbers = events.sparkSession.range(0, partitions, 1, partitions).where(f.col("id").isin(missing))
        parts += _parts_in(numbers.mapInArrow(partial(_write_without_events, write=write), "part string"))
    write_list(table, parts)


def _parts_in(written: DataFrame) -> list[Part]:
    return [Part(**json.loads(each)) for each in written.toArrow().column("part").to_pylist()]


def _number_of(part: str) -> int:
    return int(part.split("-")[1])


class _Rows(NamedTuple):
    """Histories of some users, in order of the hash of their ids, then of the id; each user once."""

    hashes: NDArray[np.int64]
    users: NDArray[np.object_]
    lengths: NDArray[np.int64]
    lists: dict[str, NDArray[Any]]
    """The events of all users, one user after the other."""

    def cut(self, start: int, end: int) -> "_Rows":
        """Return the users from one number to before another."""
        offsets = np.concatenate(([0], np.cumsum(self.lengths)))
        lists = {name: values[offsets[start] : offsets[end]] for name, values in self.lists.items()}
        return _Rows(self.hashes[start:end], self.users[start:end], self.lengths[start:end], lists)


def _write_task(
    batches: Iterator[pa.RecordBatch], table: Place, earlier: EarlierHistories | None, number: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Write the part of a task, by default that of the running one; return what was written as JSON."""
    if number is None:
        context = TaskContext.get()
        number = context.partitionId() if context else 0
    rows = _gathered(batches)
    if earlier is not None:
        rows = _merged(_Buffer(_earlier_rows(earlier, number)), _Buffer(rows))
    writer = PartWriter(table, f"part-{number:05}-{secrets.token_hex(4)}.parquet")
    for batch in _as_batches(rows):
        writer.write(batch)
    part = json.dumps(writer.close()._asdict())
    yield pa.RecordBatch.from_pylist([{"part": part}], pa.schema([("part", pa.string())]))


def _write_without_events(
    batches: Iterator[pa.RecordBatch], write: Callable[..., Iterator[pa.RecordBatch]]
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for number in batch.column(0).to_pylist():
            yield from write(iter(()), number=number)


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[_Rows]:
    """Gather events in order of their users' hashes; those of a batch's last hash wait for the next batch."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        rows = pa.concat_batches([*held, batch])
        users = rows["user_id"].dictionary_encode()
        hashes, ids = _users(users.dictionary)
        n_users = int(np.searchsorted(hashes, hashes[-1]))
        user_of_event = users.indices.to_numpy()
        n_events = int(np.argmax(user_of_event >= n_users))
        held = [rows.slice(n_events)]
        if n_events:
            yield _in_order(
                hashes[:n_users], ids[:n_users], user_of_event[:n_events], _lists_of(rows.slice(0, n_events))
            )
    for rows in held:
        users = rows["user_id"].dictionary_encode()
        yield _in_order(*_users(users.dictionary), users.indices.to_numpy(), _lists_of(rows))


def _lists_of(rows: pa.RecordBatch) -> dict[str, NDArray[Any]]:
    return {name: rows[of_event].to_numpy(zero_copy_only=False) for name, of_event in _LISTS.items()}


def _in_order(
    hashes: NDArray[np.int64], users: NDArray[np.object_], user_of_event: NDArray[np.int32], lists: dict[str, NDArray]
) -> _Rows:
    """Return histories whose users and events are in any order."""
    order = np.lexsort((users.astype(str), hashes))
    position = np.empty(len(order), np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    user = position[user_of_event]
    sales, purchases, occurred_at, recorded_at = (lists[name] for name in _LISTS)
    events = np.lexsort((occurred_at, user))
    is_tie = (np.diff(user[events]) == 0) & (np.diff(occurred_at[events]) == 0)
    if is_tie.any():  # rarely: to sort by all five takes twice as long
        events = np.lexsort((recorded_at, purchases, sales, occurred_at, user))
    lengths = np.bincount(user, minlength=len(users))
    return _Rows(hashes[order], users[order], lengths, {name: values[events] for name, values in lists.items()})


def _users(ids: pa.StringArray) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Return the hash of each user's id, as Spark's `crc32` has it, and the ids."""
    texts = ids.to_pylist()
    users = np.empty(len(texts), object)
    users[:] = texts
    return np.array([zlib.crc32(text.encode()) for text in texts], np.int64), users


def _earlier_rows(earlier: EarlierHistories, number: int) -> Iterator[_Rows]:
    """Read a part of earlier histories without the events of some days, sales at their new positions."""
    positions, days = np.array(earlier.positions, np.int32), np.array(earlier.days, np.int64)
    for batch in read_part(earlier.table, earlier.parts[number], _BATCH_USERS):
        offsets = batch["sales"].offsets.to_numpy().astype(np.int64)
        first, last = offsets[0], offsets[-1]
        lists = {name: batch[name].values.slice(first, last - first).to_numpy(zero_copy_only=False) for name in _LISTS}
        lists["sales"] = positions[lists["sales"]]
        keeps = (lists["sales"] >= 0) & ~np.isin(lists["occurred_at"] // DAY, days)
        lengths = np.diff(np.concatenate(([0], np.cumsum(keeps)))[offsets - first])
        yield _Rows(*_users(batch["user_id"]), lengths, {name: values[keeps] for name, values in lists.items()})


class _Buffer:
    """Rows in order that are read as they are needed."""

    def __init__(self, rows: Iterator[_Rows]) -> None:
        self._rows, self._held = rows, next(rows, None)

    def last(self) -> int | None:
        """Return the hash of the last user that was read and not taken; None at the end."""
        return int(self._held.hashes[-1]) if self._held is not None else None

    def take(self, until: int) -> list[_Rows]:
        """Return all users up to a hash, those with this hash included."""
        taken = []
        while self._held is not None:
            end = int(np.searchsorted(self._held.hashes, until, side="right"))
            if end:
                taken.append(self._held.cut(0, end))
            if end < len(self._held.hashes):
                self._held = self._held.cut(end, len(self._held.hashes))
                break
            self._held = next(self._rows, None)
        return taken


def _merged(earlier: _Buffer, new: _Buffer) -> Iterator[_Rows]:
    """Merge histories in order."""
    while (ends := [end for end in (earlier.last(), new.last()) if end is not None]) != []:
        until = min(ends)
        before, after = earlier.take(until), new.take(until)
        yield _joined([*before, *after]) if after else _concatenated(before)


def _joined(rows: list[_Rows]) -> _Rows:
    """Return the histories of all rows in order; users that are there twice have the events of both, in order."""
    both = _concatenated(rows)
    order = np.lexsort((both.users.astype(str), both.hashes))
    users = both.users[order]
    is_first = np.concatenate(([True], users[1:] != users[:-1]))
    user_of_row = np.empty(len(order), np.int64)
    user_of_row[order] = np.cumsum(is_first) - 1
    n_users = int(is_first.sum())
    user_of_event = np.repeat(user_of_row, both.lengths)
    in_order = np.argsort(user_of_event, kind="stable")
    is_twice = np.bincount(user_of_row, minlength=n_users) > 1
    unsorted = np.flatnonzero(is_twice[user_of_event[in_order]])
    events = in_order[unsorted]
    sales, purchases, occurred_at, recorded_at = (both.lists[name][events] for name in _LISTS)
    in_order[unsorted] = events[np.lexsort((recorded_at, purchases, sales, occurred_at, user_of_event[events]))]
    lengths = np.bincount(user_of_event, minlength=n_users)
    first = order[is_first]
    return _Rows(
        both.hashes[first], both.users[first], lengths, {name: values[in_order] for name, values in both.lists.items()}
    )


def _concatenated(rows: list[_Rows]) -> _Rows:
    lists = {name: np.concatenate([each.lists[name] for each in rows]) for name in _LISTS}
    hashes, users, lengths = (np.concatenate(column) for column in zip(*(each[:3] for each in rows), strict=True))
    return _Rows(hashes, users, lengths, lists)


def _as_batches(rows: Iterator[_Rows]) -> Iterator[pa.RecordBatch]:
    """Return histories in batches of one size, the last one smaller; at least one, and no user without events."""
    gathered: list[_Rows] = []
    for each in rows:
        has_events = each.lengths > 0
        gathered.append(each._replace(**{n: getattr(each, n)[has_events] for n in ("hashes", "users", "lengths")}))
        while sum(len(each.users) for each in gathered) >= _BATCH_USERS:
            whole = _concatenated(gathered)
            yield _as_batch(whole.cut(0, _BATCH_USERS))
            gathered = [whole.cut(_BATCH_USERS, len(whole.users))]
    yield _as_batch(_concatenated(gathered) if gathered else None)


def _as_batch(rows: _Rows | None) -> pa.RecordBatch:
    schema = to_arrow_schema(USER_HISTORIES.schema, timezone="UTC")
    if rows is None:
        return pa.RecordBatch.from_pylist([], schema)
    offsets = pa.array(np.concatenate(([0], np.cumsum(rows.lengths))).astype(np.int32))
    lists = [
        pa.ListArray.from_arrays(offsets, pa.array(rows.lists[name], schema.field(name).type.value_type)).cast(
            schema.field(name).type
        )
        for name in _LISTS
    ]
    return pa.RecordBatch.from_arrays([pa.array(rows.users.tolist(), pa.string()), *lists], schema=schema)
