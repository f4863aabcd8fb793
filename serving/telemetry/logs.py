"""The service's log: text for people, or one JSON object per line for machines."""

import logging
import time
from typing import Any

import orjson

from recsys.config.serving import LogSettings
from recsys.log_lines import LineFormatter

TEXT = "%(asctime)s %(levelname)s %(process)d %(message)s"
"""Format of a line of the log for people."""
_STANDARD = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as JSON: time, level, process, logger, message, and the fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line of JSON."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage(),
            **{key: value for key, value in record.__dict__.items() if key not in _STANDARD},
        }
        if stack := _stack(self, record):
            line["stack"] = stack
        return orjson.dumps(line, default=str).decode()


def configure(settings: LogSettings) -> None:
    """Configure this process to log to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.format == "json" else LineFormatter(TEXT))
    handler.formatter.converter = time.gmtime  # type: ignore[union-attr]
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _stack(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """Return the stack trace of a record, which is its `stack` where the error's message must not be logged."""
    if record.exc_info:
        return formatter.formatException(record.exc_info)
    return str(getattr(record, "stack", ""))
