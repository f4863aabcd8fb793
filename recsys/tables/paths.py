"""Loads files by Spark with each character of their paths taken literally."""

import re
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame, DataFrameReader

_WILDCARD = re.compile(r"[\[\]{}*?\\]")


def load(reader: DataFrameReader, paths: Sequence[Path | str]) -> DataFrame:
    """Return the rows of files or folders whose names may hold any character, such as [, { or *, which Spark expands.

    Args:
        reader: The reader, with its format and options.
        paths: At least one local path.
    """
    names = [str(path) for path in paths]
    if len(names) == 1:
        return reader.option("__globPaths__", "false").load(names[0])  # of several it would load each several times
    if any(":" in name and _WILDCARD.search(name) for name in names):  # escaped names with a colon cannot be parsed
        return reduce(DataFrame.unionByName, [load(reader, [name]) for name in names])
    return reader.load([_WILDCARD.sub(r"\\\g<0>", name) for name in names])
