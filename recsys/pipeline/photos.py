"""Engines that hash and tag photos: Spark's Python workers, with one network each, or this process."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from recsys.images.settings import ImageSettings, TaggerSettings
from recsys.images.tagging.tag_store import HASHES, OUTPUTS
from recsys.storage.places import Place, remove
from recsys.tables.parts import write_batches, write_table
from recsys.tables.spark_parts import read_spark, write_parts

HASHES_DDL = "image_uri string, stamp string, image_hash string, reason string, detail string"
OUTPUTS_DDL = (
    "image_hash string, reason string, detail string, outputs array<smallint>, probabilities array<float>, "
    "embedding array<float>"
)
_ROWS_AT_ONCE = 1024

Batches = Iterable[pa.RecordBatch]
Function = Callable[[Batches], Iterator[pa.RecordBatch]]


class Engine(Protocol):
    """Applies the functions of `recsys.images.tagging.tagging` to photos and writes the results as a table."""

    def hash_photos(self, uris: pa.Table, settings: ImageSettings, folder: Place) -> None:
        """Write rows of HASHES for rows of image_uri, known_stamp as a table."""
        ...

    def tag_photos(self, photos: pa.Table, settings: ImageSettings, network: TaggerSettings, folder: Place) -> None:
        """Write rows of OUTPUTS for rows of image_hash, image_uri as a table."""
        ...


@dataclass(frozen=True)
class SparkEngine:
    """Spark's Python workers.

    A worker uses the GPU that Spark assigns to its task (spark.task.resource.gpu.amount), otherwise any GPU of its
    machine, otherwise one thread per CPU of the task (spark.task.cpus).
    """

    spark: SparkSession

    def hash_photos(self, uris: pa.Table, settings: ImageSettings, folder: Place) -> None:
        """Write rows of HASHES for rows of image_uri, known_stamp as a table."""

        def hash_some(batches: Batches) -> Iterator[pa.RecordBatch]:
            from recsys.images.tagging.tagging import hash_photos

            yield from hash_photos(batches, settings)

        self._write(uris, hash_some, HASHES_DDL, folder)

    def tag_photos(self, photos: pa.Table, settings: ImageSettings, network: TaggerSettings, folder: Place) -> None:
        """Write rows of OUTPUTS for rows of image_hash, image_uri as a table."""

        def tag_some(batches: Batches) -> Iterator[pa.RecordBatch]:
            from recsys.images.tagging.tagging import Worker, best_device, tag_photos

            context = TaskContext.get()
            assert context is not None, "must run in a Spark task"
            gpu = context.resources().get("gpu")
            device = f"cuda:{gpu.addresses[0]}" if gpu else best_device()
            yield from tag_photos(batches, settings, network, Worker(device, context.cpus()))

        self._write(photos, tag_some, OUTPUTS_DDL, folder)

    def _write(self, rows: pa.Table, function: Function, ddl: str, folder: Place) -> None:
        tasks = int(self.spark.conf.get("spark.sql.shuffle.partitions") or 8)
        # Rows are passed in a file: Spark would send those of a local DataFrame with every task.
        passed = folder / "rows"
        write_table(rows, passed)
        read = read_spark(
            self.spark, passed, StructType([StructField(name, StringType()) for name in rows.column_names])
        )
        spread = read.repartition(min(tasks, max(1, rows.num_rows)))
        write_parts(spread.mapInArrow(function, ddl), folder)
        remove(passed)


class ProcessEngine:
    """This process: uses a GPU if there is one, otherwise all cores; decodes photos with one thread per core."""

    def hash_photos(self, uris: pa.Table, settings: ImageSettings, folder: Place) -> None:
        """Write rows of HASHES for rows of image_uri, known_stamp as a table."""
        from recsys.images.tagging.tagging import hash_photos

        write_batches(hash_photos(uris.to_batches(_ROWS_AT_ONCE), settings), HASHES, folder)

    def tag_photos(self, photos: pa.Table, settings: ImageSettings, network: TaggerSettings, folder: Place) -> None:
        """Write rows of OUTPUTS for rows of image_hash, image_uri as a table."""
        from recsys.images.tagging.tagging import Worker, best_device, tag_photos

        worker = Worker(best_device(), os.cpu_count() or 1)
        write_batches(tag_photos(photos.to_batches(_ROWS_AT_ONCE), settings, network, worker), OUTPUTS, folder)


def choose_engine(name: str, spark: SparkSession) -> Engine:
    """Return the engine for a value of `images.tagging.engine`."""
    is_local = (spark.conf.get("spark.master") or "").startswith("local")
    if name == "process" or (name == "auto" and is_local):  # on one machine Spark's workers are not faster
        return ProcessEngine()
    return SparkEngine(spark)
