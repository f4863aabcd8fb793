import logging
import sys

from recsys.log_lines import LineFormatter


def formatted(message: str, *arguments: object, error: bool = False, **extra: object) -> str:
    info = sys.exc_info() if error else None
    record = logging.getLogger("jobs").makeRecord(
        "jobs", logging.INFO, "f.py", 1, message, arguments, info, extra=extra
    )
    return LineFormatter("%(levelname)s %(name)s: %(message)s").format(record)


def test_event_is_one_line_whatever_its_values_hold():
    assert formatted("sale %s", "a\n2026-03-01 INFO jobs: forged\x1b[2J") == (
        r"INFO jobs: sale a\n2026-03-01 INFO jobs: forged\x1b[2J"
    )


def test_stack_trace_is_indented_below_its_event_so_that_an_error_begins_no_line():
    try:
        raise ValueError("a\nINFO jobs: forged\x1b[2J")
    except ValueError:
        first, *stack = formatted("failed", error=True).split("\n")
    assert first == "INFO jobs: failed"
    assert stack[-1] == r"  INFO jobs: forged\x1b[2J"
    assert all(line.startswith("  ") for line in stack)
    assert formatted("failed", stack="File f\nline 3\n") == "INFO jobs: failed\n  File f\n  line 3"
