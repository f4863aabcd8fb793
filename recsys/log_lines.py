"""Log lines: one line per event, with the stack trace, if any, indented below it."""

import logging

from recsys.wording import visible


class LineFormatter(logging.Formatter):
    """Formats a record as a line that no id, title or message of another program can end.

    A stack trace comes from the record's exception, or from the field `stack` of `extra`, and is indented: each line
    that begins at the margin is an event.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, and its stack trace below it."""
        record.message, record.asctime = visible(record.getMessage()), self.formatTime(record, self.datefmt)
        stack = self.formatException(record.exc_info) if record.exc_info else getattr(record, "stack", "")
        return "\n".join([self.formatMessage(record), *(f"  {visible(each)}" for each in stack.splitlines())])
