"""Options that several commands share."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from recsys.console import wide_console
from recsys.errors import ConfigurationError
from recsys.instants import parse_instant, to_micros

Conf = Annotated[Path, typer.Option("--conf", help="Configuration file of the shop.")]
AsOf = Annotated[
    str | None, typer.Option("--as-of", help="Instant: 2026-03-01 (midnight UTC) or 2026-03-01T02:30:00Z.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file, as JSON.")]
DEMO = Path("conf/demo.yaml")
console = wide_console()


def instants(as_of: str | None) -> tuple[int | None, int]:
    """Return the instant asked for, or None, and the last midnight UTC, the default if the configuration has none."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return parse_instant(as_of) if as_of else None, to_micros(midnight)


def this_hour() -> int:
    """Return the start of the present hour, microseconds UTC."""
    return to_micros(datetime.now(UTC).replace(minute=0, second=0, microsecond=0))


def pairs(values: list[str], option: str) -> dict[str, str]:
    """Return NAME=VALUE arguments as values by name.

    Raises:
        ConfigurationError: If an argument has no name or no `=`, or two have the same name.
    """
    found: dict[str, str] = {}
    for each in values:
        name, equals, value = each.partition("=")
        if not (name and equals):
            raise ConfigurationError(f"{option} == {each!r}, must be NAME=VALUE")
        if name in found:
            raise ConfigurationError(
                f"{option} names {name!r} twice, as {found[name]!r} and {value!r}, must name it once"
            )
        found[name] = value
    return found
