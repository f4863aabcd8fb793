"""The service's log files → exposures_compacted, recorded_events_compacted, and lines that are no records.

A log file is removed when its records are in place. A job that is killed anywhere is run again: what was put in place
by then is known by its event_id, and not put there twice. Files are only added, whole, so that readers need not wait.

In an object store a numbered list says which files a table has; of two jobs at once, one is the first to create the
next number, and the other adds nothing. On a disk a lock keeps the second one away, and all files count, so that any
tool can read the tables.
"""

import argparse
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from jobs.engine.session import spark_session
from recsys.config.settings import Settings, load_settings
from recsys.console import print_error, wide_console
from recsys.errors import InputError, RecsysError
from recsys.logs import log_files
from recsys.pipeline.exposures import WHY, first_copies, flagged_lines, rejected_lines
from recsys.storage.local import held, put_in_place, scratch_folder
from recsys.storage.places import Place, remove, sizes_below
from recsys.tables.logs import COMPACTED_EXPOSURES, DAY, EXPOSURES, RECORDED_EVENTS, RecordKind
from recsys.tables.night import Table
from recsys.tables.parts import Part, add_to_list, has_begun, last_list, parts_of, remove_unlisted
from recsys.tables.paths import load
from recsys.tables.spark_parts import new_parts, read_named
from recsys.wording import plural

_PARTS = "*.parquet"
_LOG_FILE = ".jsonl"


class Compacted(NamedTuple):
    """Counts of the compaction of one log."""

    records: int
    """Number of records added to the table."""
    duplicates: int
    """Number of copies of these records, or of records that were in the table before."""
    rejected: int
    """Number of lines that are not valid records, set aside."""
    files: int
    """Log files taken away."""
    days: tuple[date, ...]
    """Days to which records were added, ascending."""

    def __str__(self) -> str:
        """Return the counts in one line."""
        days = ", ".join(map(str, self.days)) or "no day"
        return (
            f"{plural(self.records, 'record')} of {plural(self.files, 'file')} for {days}; "
            f"{plural(self.duplicates, 'duplicate')}, {plural(self.rejected, 'line')} set aside"
        )


NOTHING_TO_COMPACT = Compacted(0, 0, 0, 0, ())


def compact_exposures(settings: Settings) -> dict[str, Compacted]:
    """Compact both logs of a shop, and return the counts by the log's name.

    Raises:
        BusyError: If another process compacts them.
    """
    folder = settings.place
    return {kind.name: _compact_if_any(settings, folder, kind) for kind in (EXPOSURES, RECORDED_EVENTS)}


def read_exposures(spark: SparkSession, folder: Place, days: Collection[date]) -> DataFrame:
    """Return the given days of the compacted exposures; columns that a file of an earlier version lacks are null.

    Args:
        spark: The session.
        folder: The shop's folder.
        days: The UTC dates of `exposed_at` to read; files of other days are not opened.

    Raises:
        InputError: If no page was logged.
    """
    path = folder / COMPACTED_EXPOSURES.name
    if not has_begun(path):
        raise InputError(f"{path} does not exist: no page was logged, see serving.exposures in the configuration")
    if not isinstance(path, Path):
        names = [part.name for part in parts_of(path, {f"{DAY}={day}" for day in days})]
        return read_named(spark, path, names, COMPACTED_EXPOSURES.schema)
    return load(spark.read.schema(COMPACTED_EXPOSURES.schema), [path]).where(f.col(DAY).isin(*days))


def _compact_if_any(settings: Settings, folder: Place, kind: RecordKind) -> Compacted:
    if not any(_LOG_FILE in name for name in sizes_below(folder / kind.name)):
        return NOTHING_TO_COMPACT  # without starting Spark
    return compact(spark_session(settings), folder, kind)


def compact(spark: SparkSession, folder: Place, kind: RecordKind) -> Compacted:
    """Compact the finished files of one log below a shop's folder; the service may write others meanwhile.

    Duplicates of a record are found on its day, the day before and the day after.

    Raises:
        BusyError: If another process compacts the log.
    """
    if not isinstance(folder, Path):
        return _compact_in_store(spark, folder, kind)
    with held(folder / kind.name, wait=False):
        log_files.recover(folder / kind.name)
        files = log_files.finished(folder / kind.name)
        if not files:
            return NOTHING_TO_COMPACT
        flagged = flagged_lines(_read_lines(spark, files), kind).cache()
        try:
            done = _add_to_tables(flagged, folder, kind)
        finally:
            flagged.unpersist()
        for file in files:
            file.unlink()
        return done._replace(files=len(files))


def _compact_in_store(spark: SparkSession, folder: Place, kind: RecordKind) -> Compacted:
    log = folder / kind.name
    names = sorted(name for name in sizes_below(log) if name.endswith(_LOG_FILE))
    if not names:
        return NOTHING_TO_COMPACT
    flagged = flagged_lines(read_lines(spark, log, names), kind).cache()
    try:
        counts = flagged.groupBy(f.isnull(WHY).alias("is_record"), DAY).count().collect()
        if any(not row["is_record"] for row in counts):
            _add_in_store(rejected_lines(flagged), kind.rejected, folder, ["file", "line"])
        days = [row[DAY] for row in counts if row["is_record"]]
        added = _add_in_store(first_copies(flagged, kind), kind.compacted, folder, ["event_id"], days)
    finally:
        flagged.unpersist()
    for name in names:
        remove(log / name)
    n_rejected = sum(row["count"] for row in counts if not row["is_record"])
    n_records, n_lines = sum(part.rows for part in added), sum(row["count"] for row in counts)
    found = sorted({_day_of_folder(part.name.split("/")[0]) for part in added})
    return Compacted(n_records, n_lines - n_rejected - n_records, n_rejected, len(names), tuple(found))


def _add_in_store(
    rows: DataFrame, kind: Table, folder: Place, key: list[str], days: Sequence[date] | None = None
) -> list[Part]:
    """Add those rows to a table that it does not have yet, and return its new parts.

    Args:
        rows: The rows.
        kind: The table.
        folder: The shop's folder.
        key: The columns that tell a row that it has.
        days: The days of the rows, around which those that it has are looked for; all of its parts by default.
    """
    table = folder / kind.name
    number, parts = last_list(table)  # before the rows that are there are read: who adds some meanwhile has this number
    near = None if days is None else {f"{DAY}={day}" for day in _around(days)}
    known = [part.name for part in parts if near is None or part.name.split("/")[0] in near]
    if known:
        existing = read_named(rows.sparkSession, table, known, kind.schema).select(key)
        rows = rows.join(existing, on=key, how="left_anti").select(rows.columns)
    added = [part for part in new_parts(kind.check(rows), table, kind.partitioned_by) if part.rows]
    if added:
        add_to_list(table, number + 1, [*parts, *added])
        remove_unlisted(table, datetime.now(UTC))
    return added


def read_lines(spark: SparkSession, log: Place, names: Sequence[str]) -> DataFrame:
    """Return the lines of log files in an object store, read by Spark's Python workers: columns `file` and `line`.

    A file that is gone has no lines: another job has added its records, and is about to be found out.
    """
    read = partial(_lines_of, log=log, names=names)
    return spark.range(0, len(names), 1, len(names)).mapInArrow(read, "file string, line string")


def _lines_of(batches: Iterator[pa.RecordBatch], log: Place, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for number in (number for batch in batches for number in batch.column(0).to_pylist()):
        with suppress(FileNotFoundError):
            lines = (log / names[number]).read_bytes().decode(errors="replace").removesuffix("\n").split("\n")
            yield pa.RecordBatch.from_pydict({"file": [names[number]] * len(lines), "line": lines})


def _read_lines(spark: SparkSession, files: list[Path]) -> DataFrame:
    lines = load(spark.read.format("text").option("lineSep", "\n"), files)
    return lines.select(f.col("_metadata.file_name").alias("file"), f.col("value").alias("line"))


def _add_to_tables(flagged: DataFrame, folder: Path, kind: RecordKind) -> Compacted:
    counts = flagged.groupBy(f.isnull(WHY).alias("is_record"), DAY).count().collect()
    n_rejected = sum(row["count"] for row in counts if not row["is_record"])
    with scratch_folder(folder) as scratch:
        existing = _files_around(folder / kind.compacted.name, [row[DAY] for row in counts if row["is_record"]])
        kind.compacted.write(_without_existing(first_copies(flagged, kind), existing, ["event_id"]), scratch)
        if n_rejected:
            existing = list((folder / kind.rejected.name).glob(_PARTS))
            kind.rejected.write(_without_existing(rejected_lines(flagged), existing, ["file", "line"]), scratch)
        days = [_day_of_folder(path.name) for path in (scratch / kind.compacted.name).glob(f"{DAY}=*")]
        n_records = _add_files(scratch / kind.compacted.name, folder / kind.compacted.name)
        _add_files(scratch / kind.rejected.name, folder / kind.rejected.name)
    n_lines = sum(row["count"] for row in counts)
    return Compacted(n_records, n_lines - n_rejected - n_records, n_rejected, 0, tuple(sorted(days)))


def _files_around(table: Path, days: list[date]) -> list[Path]:
    """Return a table's files of the given days, the days before and the days after."""
    return [file for day in _around(days) for file in (table / f"{DAY}={day}").glob(_PARTS)]


def _around(days: Iterable[date]) -> list[date]:
    """Return days, the days before and the days after, ascending."""
    return sorted({day + timedelta(days=shift) for day in days for shift in (-1, 0, 1)})


def _day_of_folder(name: str) -> date:
    return date.fromisoformat(name.removeprefix(f"{DAY}="))


def _without_existing(rows: DataFrame, existing: list[Path], key: list[str]) -> DataFrame:
    if not existing:
        return rows
    known = load(rows.sparkSession.read, existing).select(key)
    return rows.join(known, on=key, how="left_anti").select(rows.columns)


def _add_files(new: Path, table: Path) -> int:
    """Add the files of a folder to a table, each atomically, and return the number of rows."""
    rows = 0
    for file in sorted(new.rglob(_PARTS)):
        n = pq.read_metadata(file).num_rows
        if n:
            put_in_place(file, table / file.relative_to(new))
            rows += n
    return rows


def main() -> None:
    """Compact the logs of the shop given on the command line."""
    parser = argparse.ArgumentParser(
        description="compact_exposures: write the service's logs as tables, each record once."
    )
    parser.add_argument("--conf", type=Path, required=True, help="configuration file, such as conf/demo.yaml")
    try:
        for name, done in compact_exposures(load_settings(parser.parse_args().conf)).items():
            wide_console().print(f"{name}: {done}")
    except RecsysError as error:
        print_error(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
