"""The results of the checks of an installation."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from recsys.console import TextConsole, TextTable, line, stacked

Status = Literal["OK", "WARN", "FAIL"]
_STYLES: dict[Status, str] = {"OK": "green", "WARN": "yellow", "FAIL": "bold red"}


class Finding(NamedTuple):
    """The result of one check."""

    name: str
    status: Status
    """`WARN`: pages are answered, but degraded, or not for long; `FAIL`: pages are not answered, or data is lost."""
    found: str
    advice: str = ""
    """The next step; empty for OK."""


def ok(name: str, found: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(name, "OK", found)


def warn(name: str, found: str, advice: str) -> Finding:
    """Return a finding that needs action today."""
    return Finding(name, "WARN", found, advice)


def fail(name: str, found: str, advice: str) -> Finding:
    """Return a finding that needs action now."""
    return Finding(name, "FAIL", found, advice)


def fail_as(name: str, error: Exception) -> Finding:
    """Return the failure that an error describes, whose message ends with the next step after the last colon."""
    found, colon, advice = str(error).rpartition(": ")
    return fail(name, found, advice) if colon else fail(name, advice, "see the service's log")


def print_findings(findings: Sequence[Finding], console: TextConsole) -> None:
    """Print one row per finding with its next step below it, and the number of findings by status."""
    table = TextTable("", "check", "found")
    for finding in findings:
        style = _STYLES[finding.status]
        advice = [line((f"→ {finding.advice}", style))] if finding.advice else []
        table.add_row(line((finding.status, style)), finding.name, stacked([line(finding.found), *advice]))
    console.print(table)
    counts = {status: sum(finding.status == status for finding in findings) for status in _STYLES}
    console.print(", ".join(f"{count} {status}" for status, count in counts.items()))
