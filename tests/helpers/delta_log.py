"""Delta tables as other engines write them: column mapping, deletion vectors, which `deltalake` does not write."""

import json
import struct
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_MAGIC = 1681511377


def write_log(table: Path, version: int, *actions: dict[str, Any]) -> None:
    """Write a commit of a table."""
    log = table / "_delta_log"
    log.mkdir(parents=True, exist_ok=True)
    (log / f"{version:020}.json").write_text("\n".join(map(json.dumps, actions)))


def protocol(*features: str) -> dict[str, Any]:
    """Return what a table asks of those who read it."""
    needed = list(features)
    return {
        "protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": needed, "writerFeatures": needed}
    }


def field(name: str, kind: Any, number: int) -> dict[str, Any]:
    """Return a column whose name in the files is col-NUMBER."""
    mapping = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": f"col-{number}"}
    return {"name": name, "type": kind, "nullable": True, "metadata": mapping}


def metadata(fields: list[dict[str, Any]], partitioned_by: list[str], mode: str = "name") -> dict[str, Any]:
    """Return a table's columns."""
    configuration = {"delta.columnMapping.mode": mode, "delta.columnMapping.maxColumnId": "9"}
    schema = json.dumps({"type": "struct", "fields": fields})
    return {
        "metaData": {
            "id": "a-table",
            "format": {"provider": "parquet", "options": {}},
            "schemaString": schema,
            "partitionColumns": partitioned_by,
            "configuration": configuration,
            "createdTime": 0,
        }
    }


def added(table: Path, name: str, partition: dict[str, str | None], deleted: list[int] | None = None) -> dict[str, Any]:
    """Return that a file belongs to a table, and which of its rows were deleted."""
    add = {
        "path": name,
        "partitionValues": partition,
        "size": (table / name).stat().st_size,
        "modificationTime": 0,
        "dataChange": True,
        "stats": json.dumps({"numRecords": pq.read_metadata(table / name).num_rows}),
    }
    if deleted:
        add["deletionVector"] = _deletion_vector(deleted)
    return {"add": add}


def _deletion_vector(rows: list[int]) -> dict[str, Any]:
    """Return a deletion vector in the log itself: one bitmap of 32 bits, a container of up to 4,096 sorted numbers."""
    bitmap = struct.pack("<IIHH", 12346, 1, 0, len(rows) - 1) + struct.pack("<I", 16)
    bitmap += struct.pack(f"<{len(rows)}H", *rows)
    data = struct.pack("<iqi", _MAGIC, 1, 0) + bitmap
    return {"storageType": "i", "pathOrInlineDv": _z85(data), "sizeInBytes": len(data), "cardinality": len(rows)}


def _z85(data: bytes) -> str:
    data += b"\0" * (-len(data) % 4)
    text = ""
    for start in range(0, len(data), 4):
        number, digits = int.from_bytes(data[start : start + 4], "big"), ""
        for _ in range(5):
            digits = _Z85[number % 85] + digits
            number //= 85
        text += digits
    return text
