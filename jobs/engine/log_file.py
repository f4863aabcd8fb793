"""Logging of jobs and library to a file."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from recsys.console import LOGGERS
from recsys.log_lines import LineFormatter
from recsys.storage.places import Place


@contextmanager
def log_file(place: Place) -> Iterator[None]:
    """Append everything that is logged in the context to a file, with times in UTC, logger names and stack traces.

    An object store cannot append: there the file is written anew when the context ends.
    """
    if isinstance(place, Path):
        with _logging_to(place):
            yield
        return
    with TemporaryDirectory() as folder:
        file = Path(folder) / place.name
        file.write_bytes(place.read_bytes() if place.exists() else b"")
        try:
            with _logging_to(file):
                yield
        finally:
            place.write_bytes(file.read_bytes())


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    formatter = LineFormatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
        handler.close()
