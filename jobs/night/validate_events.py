"""Raw events → events, by day: days whose raw files are unchanged are carried on from the night before.

What a night writes is the same whether days are carried on or not, down to the bytes of each part. A day of raw files
is carried on if nothing that its rows' rules depend on has changed: the files, the code, the source's SQL and settings,
the erased users, the windows of the sales of its rows, and what was later than the present or than as_of. Days of
events that other raw files touch are made anew from all raw files that touch them.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from jobs.engine.code_version import code_version, library_versions
from jobs.engine.run import Run, earlier_outputs
from recsys.erasure.logs_and_tables import erased_hashes
from recsys.errors import InputError
from recsys.logs.records import RECORDED_EVENTS
from recsys.pipeline import event_days, row_rules, sources, validation
from recsys.pipeline.event_days import FILE, REJECTED_EVENTS, Day, RawDay, Written
from recsys.pipeline.raw_days import RECORDED, RawDays, raw_days
from recsys.pipeline.row_rules import (
    CLOCKS_APART,
    EVENT_RULES,
    EVENT_UNIQUE,
    KEPT,
    LARGE_SHARE,
    MANY_EVENTS,
    NOT_COUNTED,
    SET_ASIDE,
    Activity,
    RuleCount,
    names_of,
)
from recsys.pipeline.validation import Cleaned
from recsys.settings import digest
from recsys.storage.outputs import Outputs
from recsys.storage.places import Place, link, remove
from recsys.tables.event_parts import day_of_part
from recsys.tables.night import EVENTS, Table
from recsys.tables.parts import Part, PartWriter, parts_of, read_batches, write_list
from recsys.tables.spark_parts import read_spark

EVENT_DAYS = "event_days.json"
"""What is known of each day of events and of raw files, for the nights after."""
_PUBLIC_RULES = row_rules.as_sent_by_the_public(EVENT_RULES)
_EPOCH_AS_TEXT = re.compile(r"The value '\d{9,16}' .* cannot be cast to \"TIMESTAMP")
_WHOLE_FROM = 0.5
"""Share of the bytes of raw files from which on all are read: to find out which are needed takes a pass of its own."""
_log = logging.getLogger(__name__)


class Events(NamedTuple):
    """What was found in the events."""

    cleaned: list[Cleaned]
    of_shop: int | None
    """Number of events that the service did not record; None if it recorded none."""


def validate_events(run: Run, raw: dict[str, DataFrame], windows: pa.Table, out: Place) -> Events:
    """Write the usable events by day, and the rows that break a rule.

    Args:
        run: The run; only nights carry days on.
        raw: Raw tables of the source.
        windows: From `sale_windows`.
        out: Folder of the step's outputs.
    """
    work = _Work(run, raw, windows, out)
    state = work.carry_on() or work.read_all()
    (out / EVENT_DAYS).write_text(json.dumps(state))
    return _findings(run, state, work, out)


def activity(run: Run, out: Place) -> Activity:
    """Summarise who acts in the events, and until when; all events are read only if one user may have a large share."""
    days = [Day(*day) for day in json.loads((out / EVENT_DAYS).read_text())["days"].values()]
    rows, last = sum(day.rows for day in days), max((day.last for day in days), default=None)
    least = max(LARGE_SHARE * rows, MANY_EVENTS)
    for user in {user for day in days for user in day.large}:
        if sum(day.large.get(user, LARGE_SHARE * day.rows) for day in days) >= least:
            return validation.activity(EVENTS.read(run.spark, out), rows)
    return Activity(rows, 0, last, {})


@contextmanager
def readable(table: Table) -> Any:
    """Raise what Spark says of a source that it cannot read as an InputError with advice."""
    try:
        yield
    except sources.SPARK_ERRORS as error:  # a damaged file, a value that the source's SQL cannot cast
        cause = sources.first_line(error)
        advice = (
            "look in 'recsys validate' at how the raw rows were read; correct them, or allow for them in the "
            f"source's {table.name}.sql, as with try_cast"
        )
        if "[FAILED_READ_FILE" in cause:
            advice = "write the file again, or remove it"
        elif _EPOCH_AS_TEXT.search(cause):
            advice = (
                f"for seconds since 1970 write timestamp_seconds(cast(… as bigint)) in the source's {table.name}.sql, "
                "timestamp_millis or timestamp_micros for smaller units"
            )
        raise InputError(f"table {table.name}: {cause}: {advice}") from error


@dataclass(frozen=True)
class _Earlier:
    """The events of an earlier night."""

    name: str
    outputs: Outputs
    as_of: int
    present: int
    days: dict[str, Day]
    raw: dict[str, RawDay]
    stamps: dict[str, str]
    windows: dict[str, str]


class _Work:
    """The validation of one night's events."""

    def __init__(self, run: Run, raw: dict[str, DataFrame], windows: pa.Table, out: Place) -> None:
        self._run, self._raw, self._out = run, raw, out
        self._folder = run.settings.place
        self._settings = sources.with_tables(run.settings.source, (EVENTS,))
        self._windows = run.spark.createDataFrame(windows)
        self._windows_of = {
            row["sale_id"]: sorted((window["opens_at"], window["closes_at"]) for window in row["windows"])
            for row in windows.set_column(1, "windows", _as_numbers(windows["windows"])).to_pylist()
        }
        self.present = max(run.as_of, time.time_ns() // 1000) + CLOCKS_APART
        selected = sources.select_table(run.spark, EVENTS, self._settings, raw)
        self.found: RawDays = raw_days(self._settings, self._folder, selected)
        self._stamps = {} if self.found.why_whole else self.found.stamps()
        self.selects_recorded = sources.has_recorded_events(self._folder) and RECORDED_EVENTS in self._named()

    def read_all(self) -> dict[str, Any]:
        """Validate all events, and return what is known of them."""
        written = self._write(None, [*self._stamps, ""], None)
        is_known = not self.found.why_whole and "" not in written.raw_days
        return self._state(written.days, written.raw_days, written.parts, written.rejected, is_known)

    def carry_on(self) -> dict[str, Any] | None:
        """Carry on what an earlier night has, validate the rest, and return what is known; None to read all instead."""
        earlier, why = self._earlier()
        if earlier is None:
            self._log_all(why)
            return None
        changed = {day for day in self._stamps if not self._is_carried(day, earlier)}
        size, total = self.found.bytes(changed), self.found.bytes()
        if size > _WHOLE_FROM * total:
            self._log_all(f"{len(changed)} of {len(self._stamps)} days of raw files have changed")
            return None
        gone = earlier.raw.keys() - self._stamps.keys()
        anew = {day for name in (changed | gone) & earlier.raw.keys() for day in earlier.raw[name].days}
        if changed:
            with readable(EVENTS):
                anew.update(event_days.days_of(self._flagged(changed)[0]))
        touching = {day for day in self._stamps if day not in changed and anew & set(earlier.raw[day].days)}
        written = Written([], [], {}, {})
        if changed | touching:
            written = self._write(changed | touching, [*changed, ""], anew)
        if not written.raw_days.keys() <= changed:
            self._log_all("names of some raw files cannot be told from what Spark calls them")
            self._remove_written()
            return None
        carried = {day: about for day, about in earlier.raw.items() if day not in changed | gone}
        parts = self._linked(earlier, anew)
        rejected = self._carried_rejected(earlier, carried, anew)
        _log.info(
            f"    events: {len(changed)} of {len(self._stamps)} days of raw files are new or changed, "
            f"{self.found.bytes(changed | touching) / 1e6:,.1f} of {total / 1e6:,.1f} MB were read; "
            f"{len(parts)} days of events are carried on from {earlier.name}, {len(written.days)} made anew"
        )
        days = {day: about for day, about in earlier.days.items() if day not in anew} | written.days
        return self._state(
            days, carried | written.raw_days, [*parts, *written.parts], [*rejected, *written.rejected], True
        )

    def _state(
        self, days: Mapping[str, Day], raw: Mapping[str, RawDay], parts: list[Part], rejected: list[Part], known: bool
    ) -> dict[str, Any]:
        """Write the lists of parts; return what is known of the events, for the nights after if days are told apart."""
        if not parts or not rejected:
            events, none_rejected = event_days.empty_parts(self._out / EVENTS.name, self._out / REJECTED_EVENTS)
            parts, rejected = parts or [events], rejected or [none_rejected]
        if known:
            raw = {name: RawDay() for name in self._stamps} | dict(raw)  # a file may hold no row
        write_list(self._out / EVENTS.name, parts)
        write_list(self._out / REJECTED_EVENTS, rejected)
        return {
            "key": self._key() if known else None,
            "as_of": self._run.as_of,
            "present": self.present,
            "days": {day: list(about) for day, about in sorted(days.items())},
            "raw": {name: vars(about) for name, about in sorted(raw.items())},
            "stamps": self._stamps,
            "windows": {name: self._digest_of_windows(about.sales) for name, about in raw.items()},
        }

    def _earlier(self) -> tuple[_Earlier | None, str]:
        """Return the newest night that days can be carried on from, this one included; why not if there is none."""
        if self._run.rebuilds:
            return None, "--rebuild"
        if self.found.why_whole:
            return None, self.found.why_whole
        if not self._run.is_night:
            return None, "it is no night"
        for name, outputs in earlier_outputs(self._run):
            if not (outputs / EVENT_DAYS).exists():
                continue
            state = json.loads((outputs / EVENT_DAYS).read_text())
            if state["key"] == self._key() and state["as_of"] <= self._run.as_of and state["present"] <= self.present:
                days = {day: Day(*about) for day, about in state["days"].items()}
                raw = {day: RawDay(**about) for day, about in state["raw"].items()}
                told = state["as_of"], state["present"], days, raw, state["stamps"], state["windows"]
                return _Earlier(name, outputs, *told), ""
        return None, "no earlier night has events of the same source, settings, erased users and code"

    def _is_carried(self, day: str, earlier: _Earlier) -> bool:
        """Return whether validating a day of raw files anew would find the same."""
        if earlier.stamps.get(day) != self._stamps[day] or day not in earlier.raw:
            return False
        about = earlier.raw[day]
        is_future_still = about.future is None or about.future > self.present
        is_unknown_still = about.not_yet is None or about.not_yet >= self._run.as_of
        return is_future_still and is_unknown_still and earlier.windows[day] == self._digest_of_windows(about.sales)

    def _key(self) -> str:
        """Return a digest of all that the validation of any event depends on."""
        return digest(
            [
                self._settings.model_dump(mode="json", exclude={"max_rejected_share"}),
                (Path(self._settings.sql) / f"{EVENTS.name}.sql").read_text("utf-8-sig"),
                {name: frame.schema.json() for name, frame in self._raw.items() if name in self._settings.raw},
                erased_hashes(self._folder),
                code_version(validate_events),
                library_versions(),
            ]
        )

    def _digest_of_windows(self, sales: Collection[str]) -> str:
        return digest([(sale, self._windows_of.get(sale)) for sale in sorted(sales)])

    def _write(self, days: set[str] | None, fresh: Collection[str], anew: set[str] | None) -> Written:
        """Write the events of some days of raw files, by default of all, that occurred on some days."""
        with readable(EVENTS):
            flagged, public = self._flagged(days)
            tasks = 2 * int(self._run.spark.conf.get("spark.sql.shuffle.partitions") or 4)
            return event_days.write_days(
                flagged,
                public,
                self._out / EVENTS.name,
                self._out / REJECTED_EVENTS,
                self._hashes(),
                fresh,
                anew,
                tasks if anew is None else min(tasks, max(len(anew), 1)),
            )

    def _flagged(self, days: Collection[str] | None) -> tuple[DataFrame, DataFrame | None]:
        """Return flagged events of some days of raw files, and those that the public sent before the shop's SQL."""
        raw = dict(self._raw)
        if days is not None:
            only = {file for day in days for file in self.found.files[day]}
            raw |= sources.read_raw_tables(self._run.spark, self._settings, self._folder, only)
        mark: Callable[[DataFrame], DataFrame] = event_days.with_file
        if self.found.why_whole:
            mark = lambda rows: rows.withColumn(FILE, f.lit(0).cast("long"))  # noqa: E731
        public = None
        if self.selects_recorded:
            recorded = raw[RECORDED_EVENTS]
            public = validation.flag_events(mark(recorded), self._windows, self._run.as_of, self.present)
            raw[RECORDED_EVENTS] = validation.not_set_aside(public, _PUBLIC_RULES).select(*recorded.columns)
        selected = mark(self._select(raw))
        return validation.flag_events(selected, self._windows, self._run.as_of, self.present), public

    def _select(self, raw: dict[str, DataFrame]) -> DataFrame:
        selected = sources.select_table(self._run.spark, EVENTS, self._settings, raw)
        return validation.without_users(selected, erased_hashes(self._folder))

    def events_of_shop(self) -> int:
        """Return the number of events that the service did not record."""
        none_recorded = self._raw | {RECORDED_EVENTS: self._raw[RECORDED_EVENTS].limit(0)}
        return self._select(none_recorded).count()

    def _hashes(self) -> dict[int, str]:
        """Return the day of each raw file by the hash of its name, as `with_file` has it."""
        if self.found.why_whole:
            return {}
        names = self.found.names()
        table = self._run.spark.createDataFrame(pa.table({"name": pa.array(list(names), pa.string())}))
        hashes = table.select(f.xxhash64("name").alias(FILE)).toArrow().column(FILE).to_pylist()
        return dict(zip(hashes, names.values(), strict=True))

    def _named(self) -> str:
        sql = (Path(self._settings.sql) / f"{EVENTS.name}.sql").read_text("utf-8-sig")
        return RECORDED_EVENTS if f"{{{RECORDED_EVENTS}}}" in sql else ""

    def _linked(self, earlier: _Earlier, anew: Collection[str]) -> list[Part]:
        """Give the parts of the other days of an earlier night a second name here; return them."""
        before = earlier.outputs / EVENTS.name
        kept = earlier.days.keys() - set(anew)
        parts = [part for part in parts_of(before) if day_of_part(part.name) in kept]
        for part in parts:
            link(before / part.name, self._out / EVENTS.name / part.name)
        return parts

    def _carried_rejected(self, earlier: _Earlier, carried: Collection[str], anew: Collection[str]) -> list[Part]:
        """Write the rejected rows of carried days of raw files, and the copies of carried days of events."""
        writer = None
        for batch in read_batches(earlier.outputs / REJECTED_EVENTS):
            is_copy = pc.equal(batch["rule"], EVENT_UNIQUE.name)
            of_carried = pc.is_in(batch["raw_day"], pa.array(sorted(carried), pa.string()))
            of_anew = pc.is_in(batch["day"], pa.array(sorted(anew), pa.string()))
            kept = batch.filter(pc.if_else(is_copy, pc.invert(of_anew), of_carried))
            if kept.num_rows:
                writer = writer or PartWriter(self._out / REJECTED_EVENTS, "part-carried.parquet")
                writer.write(kept)
        return [writer.close()] if writer else []

    def _remove_written(self) -> None:
        for name in (EVENTS.name, REJECTED_EVENTS):
            remove(self._out / name)

    def _log_all(self, why: str) -> None:
        if self._run.is_night:
            _log.info(f"    events: all {self.found.bytes() / 1e6:,.1f} MB of raw files are read: {why}")


def _findings(run: Run, state: dict[str, Any], work: _Work, out: Place) -> Events:
    """Return the counts of the rules, and the rows that break one."""
    about, days = [RawDay(**each) for each in state["raw"].values()], [Day(*each) for each in state["days"].values()]
    counts = _counts(EVENTS.name, EVENT_RULES, sum(each.rows for each in about), [each.broken for each in about])
    copies = sum(day.copies for day in days)
    counts.append(RuleCount(EVENTS.name, EVENT_UNIQUE, sum(each.rows for each in about), copies))
    rejected = read_spark(run.spark, out / REJECTED_EVENTS, event_days.rejected_schema())
    cleaned = [_cleaned(counts, rejected.where("not is_public"))]
    if not work.selects_recorded:
        return Events(cleaned, None)
    rows, broken = sum(each.public_rows for each in about), [each.public_broken for each in about]
    counts = _counts(RECORDED_EVENTS, _PUBLIC_RULES, rows, broken)
    # The other rows are rows of table events too, whose rules count them.
    counts = [count for count in counts if count.rule.action == NOT_COUNTED]
    of_shop = sum(each["rows"] for name, each in state["raw"].items() if not name.startswith(RECORDED))
    if not state["key"]:  # rows of the shop's own files cannot be told from others
        of_shop = work.events_of_shop()
    return Events([_cleaned(counts, rejected.where("is_public"), RECORDED_EVENTS), *cleaned], of_shop)


def _counts(table: str, rules: tuple[row_rules.Rule, ...], rows: int, broken: list[dict[str, int]]) -> list[RuleCount]:
    return [RuleCount(table, rule, rows, sum(each.get(rule.name, 0) for each in broken)) for rule in rules]


def _cleaned(counts: list[RuleCount], rows: DataFrame, name: str = "") -> Cleaned:
    actions = {count.rule.action for count in counts if count.broken}
    is_used = f.col("rule").isin(names_of(EVENT_RULES, KEPT))
    return Cleaned(
        counts,
        validation.rejected_rows(rows.where(~is_used), EVENTS, name) if actions & {SET_ASIDE, NOT_COUNTED} else None,
        validation.rejected_rows(rows.where(is_used), EVENTS, name) if KEPT in actions else None,
    )


def _as_numbers(windows: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return lists of windows with instants as numbers of microseconds."""
    number = pa.struct([("opens_at", pa.int64()), ("closes_at", pa.int64())])
    return windows.cast(pa.list_(number))
