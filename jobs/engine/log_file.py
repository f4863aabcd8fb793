"""Keeps what jobs and the library log in a file."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOGGERS = ("jobs", "recsys")


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append all that is logged meanwhile to a file, with times in UTC, names and traces."""
    handler = logging.FileHandler(path, encoding="utf-8")
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
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
