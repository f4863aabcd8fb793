"""Files opened for reading, unpacked if their names say that they are packed."""

import io
from pathlib import Path

import fsspec

from recsys.storage.places import place

_BUFFER_BYTES = 1 << 20


def opened(location: str) -> io.BufferedReader:
    """Open a file by its path or URL; .gz, .bz2, .xz and .zst are unpacked while they are read."""
    where = place(location)
    if isinstance(where, Path):
        file = fsspec.filesystem("file").open(str(where), "rb", compression="infer")
    else:
        file = where.fs.open(where.path, "rb", compression="infer")
    return io.BufferedReader(file, _BUFFER_BYTES)
