"""Rows of an Iceberg table deleted by position, as Spark and Flink do; pyiceberg itself writes the files anew."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def delete_positions(table: Any, file: Any, positions: list[int], by_equality: bool = False) -> None:
    """Commit a file of deletes for some rows of a data file, or one that claims to delete rows by their values."""
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.table.snapshots import Operation
    from pyiceberg.table.update.snapshot import _FastAppendFiles

    path = file.file_path.replace(".parquet", "-deletes.parquet")
    ids = [b"2147483546", b"2147483545"]
    schema = pa.schema(
        [
            pa.field("file_path", pa.string(), False, {b"PARQUET:field_id": ids[0]}),
            pa.field("pos", pa.int64(), False, {b"PARQUET:field_id": ids[1]}),
        ]
    )
    rows = pa.table([[file.file_path] * len(positions), positions], schema=schema)
    local = Path(path.removeprefix("file://"))
    pq.write_table(rows, local)
    deletes = DataFile.from_args(
        content=DataFileContent.EQUALITY_DELETES if by_equality else DataFileContent.POSITION_DELETES,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=file.partition,
        record_count=len(positions),
        file_size_in_bytes=local.stat().st_size,
        column_sizes={},
        value_counts={},
        null_value_counts={},
        nan_value_counts={},
        lower_bounds={},
        upper_bounds={},
        split_offsets=None,
    )
    deletes.spec_id = file.spec_id
    with table.transaction() as transaction:
        update = _FastAppendFiles(Operation.APPEND, transaction, table.io)
        update.append_data_file(deletes)
        update.commit()
