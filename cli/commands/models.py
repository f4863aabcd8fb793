"""`recsys models list | show | compare | promote | rollback | log | live | drift`: the life of a version."""

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import DEMO, Conf, JsonFile, console
from recsys.config.settings import load_settings
from recsys.errors import ConfigurationError
from recsys.instants import from_micros, parse_instant

models = typer.Typer(
    no_args_is_help=True,
    help="Versions of the meta-model: which there are, which one ranks, which one should.\n\n"
    "A night registers a version once the newest is a week old. The first is the champion, which ranks; a later one "
    "is the challenger until **recsys backtest** shows that it is better and **promote** makes it the champion.",
)

Version = Annotated[str, typer.Argument(help="A version or an alias, such as 5 or challenger.")]
By = Annotated[str | None, typer.Option(help="Who; the user of the system by default.")]
Why = Annotated[str, typer.Option(help="Why, for the log.")]


@models.command("list")
def list_versions(conf: Conf = DEMO) -> None:
    """List the versions, newest first, with what they reached on their training set."""
    from cli.tables.models import print_versions
    from jobs.registry import tracking

    print_versions(tracking.versions(load_settings(conf)), console)


@models.command()
def show(version: Version, conf: Conf = DEMO) -> None:
    """Show all that a version carries."""
    from cli.tables.models import print_version
    from cli.tables.results import print_model
    from jobs.registry import tracking

    settings = load_settings(conf)
    found = tracking.described(settings, version)
    model = tracking.read_version(settings, found.version)
    print_version(found, model, tracking.read_configuration(settings, found.version), console)
    print_model(model, console)


@models.command()
def compare(one: Version, other: Version, conf: Conf = DEMO, json_file: JsonFile = None) -> None:
    """Show in what two versions differ, and what the last backtest says that ranked by both."""
    from cli.tables.models import print_comparison
    from jobs.registry import tracking
    from jobs.registry.promote_model import evidence_of
    from recsys.registry.versions import differing

    settings = load_settings(conf)
    first, second = (tracking.described(settings, name) for name in (one, other))
    pair = (first, second)
    models = (tracking.read_version(settings, first.version), tracking.read_version(settings, second.version))
    read = tracking.read_configuration
    configurations = (read(settings, first.version), read(settings, second.version))
    evidence = evidence_of(settings, first.version, second.version)
    print_comparison(pair, models, configurations, evidence, console)
    if json_file:
        result = {
            "versions": [each.version for each in pair],
            "metrics": [dict(each.metrics) for each in pair],
            "settings": differing(*configurations),
            "evidence": evidence.model_dump() if evidence else None,
        }
        json_file.write_text(json.dumps(result, indent=2) + "\n")


@models.command()
def promote(
    version: Version,
    conf: Conf = DEMO,
    force: Annotated[bool, typer.Option("--force", help="Without evidence; needs --why, and is logged.")] = False,
    why: Why = "",
    by: By = None,
) -> None:
    """Make a version the champion, if the last backtest of both shows that it is better than the champion."""
    from jobs.registry.promote_model import Asked
    from jobs.registry.promote_model import promote as make_champion

    asked = Asked(datetime.now(UTC), by or getpass.getuser(), why)
    change = make_champion(load_settings(conf), version, asked, force, "" if conf == DEMO else str(conf))
    console.print(f"Version {change.after} is the champion, after version {change.before}.")
    console.print(str(change.evidence) if change.evidence else "Nothing was measured of both.", markup=False)
    console.print(f"The next night ranks by it. At once: recsys nightly --no-train --conf {conf}")


@models.command()
def rollback(conf: Conf = DEMO, why: Why = "", by: By = None) -> None:
    """Make the champion before this one the champion; again goes one further back."""
    from jobs.registry.promote_model import Asked
    from jobs.registry.promote_model import rollback as roll_back

    change = roll_back(load_settings(conf), Asked(datetime.now(UTC), by or getpass.getuser(), why))
    console.print(
        f"Version {change.after} is the champion again, instead of version {change.before}.\nThe next night ranks by "
        f"it. At once: recsys nightly --no-train --conf {conf}, or recsys snapshots rollback --conf {conf}"
    )


@models.command("log")
def show_log(conf: Conf = DEMO) -> None:
    """Show who made which version the champion, when and why."""
    from cli.tables.models import print_changes
    from jobs.registry.promote_model import log_of

    print_changes(log_of(load_settings(conf)).changes(), console)


@models.command()
def live(
    at: Annotated[str | None, typer.Option(help="The instant, 2026-03-01T12:00:00Z; now by default.")] = None,
    conf: Conf = DEMO,
) -> None:
    """Say which version was the champion at an instant, by the log."""
    from jobs.registry.promote_model import log_of

    instant = from_micros(parse_instant(at)) if at else datetime.now(UTC)
    change = log_of(load_settings(conf)).live_at(instant)
    if change is None:
        raise ConfigurationError(
            f"--at {instant:%Y-%m-%d %H:%M} UTC, must be at or after the first change that 'recsys models log' shows"
        )
    console.print(
        f"Version {change.after} of {change.model}, since {change.at:%Y-%m-%d %H:%M} UTC by {change.by}: {change.why}",
        markup=False,
    )


@models.command()
def drift(
    conf: Conf = DEMO,
    nights: Annotated[int, typer.Option(min=1, help="The last so many nights.")] = 30,
    json_file: JsonFile = None,
) -> None:
    """Show from night to night how inputs, ranking and calibration went."""
    from cli.tables.models import print_nights
    from recsys.pipeline.night_values import read_night_values

    found = read_night_values(Path(load_settings(conf).folder))[-nights:]
    print_nights(found, console)
    if json_file:
        json_file.write_text(json.dumps([each.model_dump(mode="json") for each in found], indent=2) + "\n")
