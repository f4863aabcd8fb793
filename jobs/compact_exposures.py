"""Segments of the service's logs → exposures_compacted, recorded_events_compacted, and lines that are no records.

A segment is removed when its records are in place. A job that is killed anywhere is run again: what was put in place by
then is known by its event_id, and not put there twice. Files are only added, whole, so that readers need not wait.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from jobs.run import locked
from jobs.session import spark_session
from recsys import segments
from recsys.config import Settings, load_settings
from recsys.errors import RecsysError
from recsys.exposure_tables import DAY, EXPOSURES, RECORDED_EVENTS, RecordKind
from recsys.pipeline.exposures import first_copies, flagged_lines, rejected_lines
from recsys.snapshot_store import flush
from recsys.tables import Table


class Compacted(NamedTuple):
    """What a compaction did with the lines of one log."""

    records: int
    """Records put in place."""
    duplicates: int
    """Copies of these, or of records that were in place."""
    rejected: int
    """Lines that are no records, set aside."""
    files: int
    """Segments taken away."""
    days: tuple[date, ...]
    """The days that got records, ascending."""

    def __str__(self) -> str:
        """Return the counts in one line."""
        days = ", ".join(map(str, self.days)) or "no day"
        return (
            f"{self.records:,} records of {self.files:,} files for {days}; "
            f"{self.duplicates:,} duplicates, {self.rejected:,} lines set aside"
        )


def compact_exposures(settings: Settings) -> dict[str, Compacted]:
    """Compact both logs of a shop, and return what was done by the log's name.

    Raises:
        BusyError: If another process compacts them.
    """
    spark, folder = spark_session(settings), Path(settings.folder)
    return {kind.name: compact(spark, folder, kind) for kind in (EXPOSURES, RECORDED_EVENTS)}


def compact(spark: SparkSession, folder: Path, kind: RecordKind) -> Compacted:
    """Compact the finished segments of one log below a shop's folder; the service may write others meanwhile.

    Copies of a record are known within their day, the day before and the day after.

    Raises:
        BusyError: If another process compacts the log.
    """
    with locked(folder / kind.name):
        segments.recover(folder / kind.name)
        files = segments.finished(folder / kind.name)
        if not files:
            return Compacted(0, 0, 0, 0, ())
        flagged = flagged_lines(_lines(spark, files), kind).cache()
        try:
            done = _put_in_place(flagged, folder, kind)
        finally:
            flagged.unpersist()
        for file in files:
            file.unlink()
        return done._replace(files=len(files))


def _lines(spark: SparkSession, files: list[Path]) -> DataFrame:
    lines = spark.read.text([str(file) for file in files], lineSep="\n")
    return lines.select(f.col("_metadata.file_name").alias("file"), f.col("value").alias("line"))


def _put_in_place(flagged: DataFrame, folder: Path, kind: RecordKind) -> Compacted:
    counts = {row[DAY]: row for row in flagged.groupBy("reason is null", DAY).count().collect()}
    raise NotImplementedError


@contextmanager
def _scratch(folder: Path, kind: RecordKind) -> Iterator[Path]:
    for left_over in folder.glob(f".tmp-{kind.name}-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    # A name of its own each time: the Java side of a killed run may still be writing into the last one.
    scratch = Path(tempfile.mkdtemp(prefix=f".tmp-{kind.name}-", dir=folder))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
