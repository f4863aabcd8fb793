"""Validated events, a part for each day on which they occurred, each event once; and what each day of raw files held.

Spark flags the rows and brings those of a day together, in order; its Python workers write the parts and return what
they found as one small record for each task. So that a part has the same bytes whenever it is written, rows are in one
order, and row groups have one size.
"""

import json
import secrets
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructField, StructType

from recsys.erasure.logs_and_tables import hash_of
from recsys.instants import DAY, from_micros, to_micros
from recsys.pipeline.row_rules import (
    EVENT_RULES,
    EVENT_UNIQUE,
    KEPT,
    LARGE_SHARE,
    NOT_COUNTED,
    SET_ASIDE,
    names_of,
)
from recsys.storage.places import Place
from recsys.tables.night import BOOLEAN, EVENTS, STRING
from recsys.tables.parts import Part, PartWriter, write_file

REJECTED_EVENTS = "rejected_events"
"""Table of the rows of events that break a rule, with the day of their raw files, for the nights after."""
NO_DAY = "00000000"
"""In place of a day in the name of the part without rows, which a shop without events has."""
FILE = "file"
"""Column of a raw row with the hash of its file's name."""
_IS_PUBLIC, _DAY = "is_public", "day"
_REJECTED = StructType(
    [
        *EVENTS.schema,
        StructField("rule", STRING),
        StructField("is_public", BOOLEAN),
        StructField("raw_day", STRING),
        StructField("day", STRING),
    ]
)
_ROW_GROUP = 500_000
_EXAMPLES = 3
"""Number of rows per day, raw day and rule that are retained of those that are used despite a rule."""
_LAST_DAY = 100_000  # later ones break a rule
_HASH_BITS = 46
_ASIDE = frozenset(names_of((*EVENT_RULES, EVENT_UNIQUE), SET_ASIDE, NOT_COUNTED))
_KEPT = frozenset(names_of(EVENT_RULES, KEPT))
_PAST, _KNOWN = "event_in_the_past", "known_as_of"
_KEY = ("user_id", "sale_id", "kind", "occurred_at")


class Day(NamedTuple):
    """What the events of one day are like, copies left out."""

    rows: int
    copies: int
    """Number of rows left out, since they are there already."""
    last: int
    """The latest instant, microseconds UTC."""
    large: dict[str, int]
    """Number of events of each user with at least LARGE_SHARE of the day's, by a digest of the id: this names nobody,
    and need not be looked into when a user is erased."""


@dataclass
class RawDay:
    """What the raw rows of one day of files are like."""

    rows: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    """Number of rows that break each rule."""
    public_rows: int = 0
    """Number of rows that the public sent, before the shop's SQL."""
    public_broken: dict[str, int] = field(default_factory=dict)
    days: list[str] = field(default_factory=list)
    """Days on which the usable rows occurred."""
    sales: list[str] = field(default_factory=list)
    """Ids of the sales of all rows, known or not."""
    future: int | None = None
    """First instant of rows later than the present: from then on they are no longer."""
    not_yet: int | None = None
    """First instant of rows that are not known yet."""


class Written(NamedTuple):
    """What was written of some days."""

    parts: list[Part]
    rejected: list[Part]
    days: dict[str, Day]
    raw_days: dict[str, RawDay]
    """By day of raw files; only of those whose rows were all looked at."""


def with_file(selected: DataFrame) -> DataFrame:
    """Add the hash of the name of the file that each row comes from; right above the files, before any exchange."""
    return selected.withColumn(FILE, f.xxhash64(f.input_file_name()))


def days_of(flagged: DataFrame) -> list[str]:
    """Return the days on which the usable rows of flagged events occurred."""
    usable = flagged.where(f.col("rule").isNull() | f.col("rule").isin(*_KEPT))
    found = usable.select(_day_of_event().alias(_DAY)).distinct().collect()
    return sorted(day_name(row[_DAY]) for row in found)


def day_name(day: int) -> str:
    """Return a number of days since 1970 as in 20260301."""
    return f"{from_micros(day * DAY):%Y%m%d}"


def day_number(name: str) -> int:
    """Return the number of days since 1970 of a day such as 20260301."""
    return to_micros(datetime.strptime(name, "%Y%m%d").replace(tzinfo=UTC)) // DAY


def write_days(
    flagged: DataFrame,
    public: DataFrame | None,
    table: Place,
    rejected: Place,
    raw_day_of_file: Mapping[int, str],
    fresh: Collection[str],
    days: Collection[str] | None = None,
    partitions: int = 1,
) -> Written:
    """Write flagged events by day, and those that break a rule.

    Args:
        flagged: Table `events` with `file` and `rule`, see `flag_events`.
        public: Events that the public sent, before the shop's SQL, in the same form; their rule counts and rejected
            rows are apart, and none of them is written here.
        table: Folder of the parts of table `events`; the list of parts is the caller's.
        rejected: Folder of the parts of REJECTED_EVENTS.
        raw_day_of_file: Day of the raw files of each `file`.
        fresh: Days of raw files whose rows are all counted and, if they break a rule, written to `rejected`.
        days: Days to write; of the other days' rows only those of `fresh` raw files are looked at. All by default.
        partitions: Number of tasks that days are divided among.
    """
    rows = flagged.withColumn(_IS_PUBLIC, f.lit(False))
    if public is not None:
        rows = rows.unionByName(public.withColumn(_IS_PUBLIC, f.lit(True)).select(*rows.columns))
    if days is not None:
        is_known = f.col(FILE).isin([number for number, day in raw_day_of_file.items() if day not in fresh])
        rows = rows.where(~is_known | f.coalesce(_day_of_event().isin([day_number(day) for day in days]), f.lit(False)))
    day = f.least(f.greatest(f.coalesce(_day_of_event(), f.lit(0)), f.lit(0)), f.lit(_LAST_DAY))
    # Days first, then users: a number that nearly tells them apart, since comparing texts takes far longer.
    order = f.shiftleft(f.col(_DAY).cast("long"), _HASH_BITS).bitwiseOR(
        f.xxhash64("user_id").bitwiseAND(f.lit((1 << _HASH_BITS) - 1))
    )
    rest = (*_KEY, "recorded_at", f.desc_nulls_last("revenue"), FILE)
    in_order = (
        rows.withColumn(_DAY, day)
        .repartition(partitions, _DAY)
        .sortWithinPartitions(order, *rest)
        .select(*EVENTS.columns, "rule", _IS_PUBLIC, FILE, _DAY)
    )
    write = partial(
        _write_task, table=table, rejected=rejected, raw_day_of_file=dict(raw_day_of_file), fresh=frozenset(fresh)
    )
    found = in_order.mapInArrow(write, "found string").toArrow().column("found").to_pylist()
    return _merged([json.loads(each) for each in found])


def empty_parts(table: Place, rejected: Place) -> tuple[Part, Part]:
    """Write a part without rows of each table, for a shop without events."""
    events = to_arrow_schema(EVENTS.schema, timezone="UTC").empty_table()
    empty = to_arrow_schema(_REJECTED, timezone="UTC").empty_table()
    return write_file(table, f"part-{NO_DAY}-empty.parquet", [events]), write_file(
        rejected, "part-empty.parquet", [empty]
    )


def rejected_schema() -> StructType:
    """Return the columns of table REJECTED_EVENTS."""
    return _REJECTED


def _day_of_event() -> Column:
    return f.expr(f"cast(unix_micros(occurred_at) div {DAY} as int)")


def _write_task(
    batches: Iterator[pa.RecordBatch],
    table: Place,
    rejected: Place,
    raw_day_of_file: dict[int, str],
    fresh: frozenset[str],
) -> Iterator[pa.RecordBatch]:
    task = _Task(table, rejected, raw_day_of_file, fresh)
    for batch in batches:
        for day, rows in _by_day(batch):
            task.add(day, rows)
    found = task.close()
    yield pa.RecordBatch.from_pylist([{"found": json.dumps(found)}], pa.schema([("found", pa.string())]))


def _by_day(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    if not batch.num_rows:
        return
    days = batch.column(_DAY).to_numpy()
    starts = np.concatenate(([0], np.flatnonzero(np.diff(days)) + 1, [len(days)]))
    for start, end in pairwise(starts):
        yield int(days[start]), batch.slice(start, end - start).drop_columns([_DAY])


class _Task:
    """Writes the days of one task, which come one after the other, and counts."""

    def __init__(self, table: Place, rejected: Place, raw_day_of_file: dict[int, str], fresh: frozenset[str]) -> None:
        self._table, self._rejected_table = table, rejected
        self._raw_day_of_file, self._fresh = raw_day_of_file, fresh
        self._rejected: PartWriter | None = None
        self._name_of_rejected = f"part-{secrets.token_hex(8)}.parquet"
        self._day: _DayWriter | None = None
        self._gathered: list[pa.RecordBatch] = []
        self._n_gathered = 0
        self._examples: dict[tuple[str, ...], int] = {}
        self._days: dict[str, Any] = {}
        self._parts: list[Any] = []
        self._raw: dict[str, RawDay] = defaultdict(RawDay)

    def add(self, day: int, rows: pa.RecordBatch) -> None:
        """Add rows of a day; those of the day before are complete."""
        if self._day is None or self._day.day != day:
            self._end_day()
            self._day = _DayWriter(self._table, day)
        self._gathered.append(rows)
        self._n_gathered += rows.num_rows
        if self._n_gathered >= _ROW_GROUP:
            self._process()

    def close(self) -> dict[str, Any]:
        """End the last day, and return what was found, as JSON has it."""
        self._end_day()
        rejected = [self._rejected.close()._asdict()] if self._rejected else []
        raw = {name: vars(found) for name, found in self._raw.items()}
        return {"parts": self._parts, "rejected": rejected, "days": self._days, "raw": raw}

    def _end_day(self) -> None:
        if self._day is None:
            return
        self._process()
        name = day_name(self._day.day)
        if found := self._day.close(partial(self._reject, day=name)):
            part, self._days[name] = found
            self._parts.append(part._asdict())
        self._day = None
        self._examples.clear()

    def _process(self) -> None:
        if not self._gathered or self._day is None:
            return
        rows = pa.Table.from_batches(self._gathered).combine_chunks()
        self._gathered, self._n_gathered = [], 0
        name = day_name(self._day.day)
        files = pc.unique(rows[FILE])
        of_files = pa.array([self._raw_day_of_file.get(number, "") for number in files.to_pylist()], pa.string())
        raw_day = of_files.take(pc.index_in(rows[FILE].combine_chunks(), files))
        rows = rows.drop_columns([FILE]).append_column("raw_day", raw_day)
        is_fresh = pc.is_in(rows["raw_day"], pa.array(sorted(self._fresh), pa.string()))
        fresh = rows.filter(is_fresh)
        if fresh.num_rows:
            self._count(fresh, name)
            self._reject(self._flagged(fresh, name), day=name)
        usable = _is_usable(rows)
        if pc.any(usable).as_py():
            self._day.add(rows.filter(usable), partial(self._reject, day=name))

    def _count(self, rows: pa.Table, day: str) -> None:
        occurred_at, recorded_at = (rows[name].cast(pa.int64()) for name in ("occurred_at", "recorded_at"))
        rows = rows.set_column(rows.column_names.index("occurred_at"), "occurred_at", occurred_at)
        rows = rows.append_column("latest", pc.max_element_wise(occurred_at, recorded_at))
        counts = rows.group_by(["raw_day", "rule", _IS_PUBLIC]).aggregate(
            [([], "count_all"), ("latest", "min"), ("occurred_at", "min")]
        )
        for each in counts.to_pylist():
            raw, rule, n = self._raw[each["raw_day"]], each["rule"], each["count_all"]
            if each[_IS_PUBLIC]:
                raw.public_rows += n
            else:
                raw.rows += n
            if rule:
                broken = raw.public_broken if each[_IS_PUBLIC] else raw.broken
                broken[rule] = broken.get(rule, 0) + n
            if rule == _PAST:
                raw.future = _least(raw.future, each["latest_min"])
            if rule == _KNOWN:
                raw.not_yet = _least(raw.not_yet, each["occurred_at_min"])
            if not each[_IS_PUBLIC] and (not rule or rule in _KEPT) and day not in raw.days:
                raw.days.append(day)
        for each in rows.group_by("raw_day").aggregate([("sale_id", "distinct")]).to_pylist():
            known = self._raw[each["raw_day"]]
            known.sales = sorted({*known.sales, *(sale for sale in each["sale_id_distinct"] if sale)})

    def _flagged(self, rows: pa.Table, day: str) -> pa.Table:
        """Return the rows that are set aside, and a few of those that are used despite a rule."""
        aside = rows.filter(pc.is_in(rows["rule"], pa.array(sorted(_ASIDE))))
        kept = rows.filter(pc.and_(pc.is_in(rows["rule"], pa.array(sorted(_KEPT))), pc.invert(rows[_IS_PUBLIC])))
        found = [aside]
        for each in kept.group_by(["raw_day", "rule"]).aggregate([]).to_pylist():
            raw_day, rule = each["raw_day"], each["rule"]
            key = (day, raw_day, rule)
            of_key = kept.filter((pc.field("raw_day") == raw_day) & (pc.field("rule") == rule))
            some = of_key.slice(0, _EXAMPLES - self._examples.get(key, 0))
            self._examples[key] = self._examples.get(key, 0) + some.num_rows
            found.append(some)
        return pa.concat_tables(found)

    def _reject(self, rows: pa.Table, day: str) -> None:
        if not rows.num_rows:
            return
        rows = rows.append_column("day", pa.array([day] * rows.num_rows, pa.string()))
        if self._rejected is None:
            self._rejected = PartWriter(self._rejected_table, self._name_of_rejected)
        schema = to_arrow_schema(_REJECTED, timezone="UTC")
        for batch in rows.select(schema.names).cast(schema).to_batches():
            self._rejected.write(batch)


class _DayWriter:
    """Writes the events of a day, each once: of copies the first recorded, with the largest revenue."""

    def __init__(self, table: Place, day: int) -> None:
        self.day = day
        self._table, self._name = table, f"part-{day_name(day)}-{secrets.token_hex(4)}.parquet"
        self._writer: PartWriter | None = None
        self._held: pa.Table | None = None
        self._once: list[pa.Table] = []
        self._n_once = 0
        self._rows, self._copies, self._last = 0, 0, 0
        self._large: dict[str, int] = {}

    def add(self, rows: pa.Table, reject: Any) -> None:
        """Add usable rows in order; those of the last user wait for the next ones, which may be theirs too."""
        if self._held is not None:
            rows = pa.concat_tables([self._held, rows]).combine_chunks()
        users = rows["user_id"].combine_chunks()
        starts = _starts_of_runs([users])
        self._held = rows.slice(starts[-1])
        self._take(rows.slice(0, starts[-1]), reject)

    def close(self, reject: Any) -> tuple[Part, list[Any]] | None:
        """End the day; return its part and what a `Day` holds, None if it has no event."""
        if self._held is not None:
            self._take(self._held, reject)
        if not self._rows:
            return None
        self._flush()
        assert self._writer is not None
        large = {user: n for user, n in sorted(self._large.items()) if n >= LARGE_SHARE * self._rows}
        return self._writer.close(), list(Day(self._rows, self._copies, self._last, large))

    def _take(self, rows: pa.Table, reject: Any) -> None:
        if not rows.num_rows:
            return
        rows = rows.combine_chunks()
        starts = _starts_of_runs([rows[name].combine_chunks() for name in _KEY])
        once = rows
        if len(starts) < rows.num_rows:
            once = rows.take(pa.array(starts))
            revenue = rows["revenue"].to_numpy(zero_copy_only=False).astype(float)
            largest = np.fmax.reduceat(revenue, starts)
            once = once.set_column(
                once.column_names.index("revenue"), "revenue", pa.array(largest, pa.float64(), from_pandas=True)
            )
            copies = np.ones(rows.num_rows, bool)
            copies[starts] = False
            later = rows.filter(pa.array(copies))
            rule = pa.array([EVENT_UNIQUE.name] * later.num_rows, pa.string())
            reject(later.set_column(later.column_names.index("rule"), "rule", rule))
        self._rows += len(starts)
        self._copies += rows.num_rows - len(starts)
        self._last = max(self._last, pc.max(once["occurred_at"].cast(pa.int64())).as_py())
        self._note_large(once["user_id"].combine_chunks())
        self._once.append(once.select(list(EVENTS.columns)))
        self._n_once += once.num_rows
        while self._n_once >= _ROW_GROUP:
            self._flush()

    def _note_large(self, users: pa.Array) -> None:
        starts = _starts_of_runs([users])
        lengths = np.diff(np.append(starts, len(users)))
        for run in np.flatnonzero(lengths >= LARGE_SHARE * self._rows):
            self._large[hash_of(users[starts[run]].as_py())] = int(lengths[run])

    def _flush(self) -> None:
        """Write the next row group, of one size in all parts but for the last of each."""
        if not self._n_once:
            return
        rows = pa.concat_tables(self._once)
        group, rest = rows.slice(0, _ROW_GROUP), rows.slice(_ROW_GROUP)
        self._once, self._n_once = [rest], rest.num_rows
        if self._writer is None:
            self._writer = PartWriter(self._table, self._name)
        schema = to_arrow_schema(EVENTS.schema, timezone="UTC")
        whole = [pa.concat_arrays(group.column(each.name).cast(each.type).chunks) for each in schema]
        self._writer.write(pa.RecordBatch.from_arrays(whole, schema=schema))


def _is_usable(rows: pa.Table) -> pa.ChunkedArray:
    keeps = pc.or_(pc.is_null(rows["rule"]), pc.is_in(rows["rule"], pa.array(sorted(_KEPT))))
    return pc.and_(keeps, pc.invert(rows[_IS_PUBLIC]))


def _starts_of_runs(columns: list[pa.Array]) -> np.ndarray:
    """Return where the rows begin whose values differ from those of the row before; there is at least one row."""
    differs = np.zeros(len(columns[0]) - 1, bool)
    for column in columns:
        differs |= pc.not_equal(column.slice(1), column.slice(0, len(column) - 1)).to_numpy(zero_copy_only=False)
    return np.concatenate(([0], np.flatnonzero(differs) + 1))


def _merged(found: list[dict[str, Any]]) -> Written:
    """Put together what several tasks found."""
    raw: dict[str, RawDay] = {}
    for name, one in ((name, one) for each in found for name, one in each["raw"].items()):
        into = raw.setdefault(name, RawDay())
        into.rows += one["rows"]
        into.public_rows += one["public_rows"]
        for counts in ("broken", "public_broken"):
            total = getattr(into, counts)
            for rule, n in one[counts].items():
                total[rule] = total.get(rule, 0) + n
        into.days = sorted({*into.days, *one["days"]})
        into.sales = sorted({*into.sales, *one["sales"]})
        into.future, into.not_yet = _least(into.future, one["future"]), _least(into.not_yet, one["not_yet"])
    return Written(
        [Part(**part) for each in found for part in each["parts"]],
        [Part(**part) for each in found for part in each["rejected"]],
        {day: Day(*about) for each in found for day, about in each["days"].items()},
        raw,
    )


def _least(one: int | None, other: int | None) -> int | None:
    return min((each for each in (one, other) if each is not None), default=None)
