"""What a check of an installation found, and what to do about it."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

Status = Literal["OK", "WARN", "FAIL"]
_STYLES: dict[Status, str] = {"OK": "green", "WARN": "yellow", "FAIL": "bold red"}


class Finding(NamedTuple):
    """The result of one check."""

    name: str
    status: Status
    """`WARN`: pages are answered, but not as they should be, or not for long; `FAIL`: they are not, or data is lost."""
    found: str
    advice: str = ""
    """What to do; empty for OK."""


def ok(name: str, found: str) -> Finding:
    """Return what needs nobody."""
    return Finding(name, "OK", found)


def warn(name: str, found: str, advice: str) -> Finding:
    """Return what needs somebody today."""
    return Finding(name, "WARN", found, advice)


def fail(name: str, found: str, advice: str) -> Finding:
    """Return what needs somebody now."""
    return Finding(name, "FAIL", found, advice)


def fail_as(name: str, error: Exception) -> Finding:
    """Return an error raised on purpose: its message ends with the next step, after the last colon."""
    found, colon, advice = str(error).rpartition(": ")
    return fail(name, found, advice) if colon else fail(name, advice, "see the service's log")


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print a row a finding with what to do below it, and how many of them need somebody."""
    table = Table("", "check", "found", box=None, pad_edge=False)
    for finding in findings:
        found = Text(finding.found)
        if finding.advice:
            found.append(f"\n→ {finding.advice}", _STYLES[finding.status])
        table.add_row(Text(finding.status, _STYLES[finding.status]), Text(finding.name), found)
    console.print(table)
    counts = {status: sum(finding.status == status for finding in findings) for status in _STYLES}
    console.print(Text(", ".join(f"{count} {status}" for status, count in counts.items())))
