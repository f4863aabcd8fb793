"""`recsys models list | show | compare | promote | rollback | log | live | drift`: versions of the meta-model."""

import getpass
import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.commands.options import DEMO, Conf, JsonFile, console
from recsys.config.settings import load_settings
from recsys.errors import ConfigurationError
from recsys.instants import from_micros, parse_instant

models = typer.Typer(
    no_args_is_help=True,
    help="Versions of the meta-model: list, compare, promote and roll back.\n\n"
    "A night registers a new version once the newest is a week old. The first version is the champion, which ranks; a "
    "later one is the challenger until **recsys backtest** shows that it is better and **promote** makes it the "
    "champion.",
)

Version = Annotated[str, typer.Argument(help="A version or an alias, such as 5 or challenger.")]
By = Annotated[str | None, typer.Option(help="Author of the change; the user of the operating system by default.")]
Why = Annotated[str, typer.Option(help="Reason for the change, for the log.")]


@models.command("list")
def list_versions(conf: Conf = DEMO) -> None:
    """List the versions, newest first, with their metrics on the training set."""
    from cli.tables.models import print_versions
    from jobs.registry import tracking

    print_versions(tracking.versions(load_settings(conf)), console)


@models.command()
def show(version: Version, conf: Conf = DEMO) -> None:
    """Show a version: lineage, metrics, configuration and coefficients."""
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
    """Show the differences between two versions, and the result of the last backtest of both."""
    from cli.tables.models import print_comparison
    from jobs.registry import tracking
    from jobs.registry.promote_model import evidence_of
    from recsys.registry.versions import differing

    settings = load_settings(conf)
    first, second = (tracking.described(settings, name) for name in (one, other))
    both = (first, second)
    models = (tracking.read_version(settings, first.version), tracking.read_version(settings, second.version))
    read_configuration = tracking.read_configuration
    configurations = (read_configuration(settings, first.version), read_configuration(settings, second.version))
    evidence = evidence_of(settings, first.version, second.version)
    print_comparison(both, models, configurations, evidence, console)
    if json_file:
        result = {
            "versions": [each.version for each in both],
            "metrics": [dict(each.metrics) for each in both],
            "settings": differing(*configurations),
            "evidence": evidence.model_dump() if evidence else None,
        }
        json_file.write_text(json.dumps(result, indent=2) + "\n")


@models.command()
def promote(
    version: Version,
    conf: Conf = DEMO,
    force: Annotated[bool, typer.Option("--force", help="Without evidence; requires --why, and is logged.")] = False,
    why: Why = "",
    by: By = None,
) -> None:
    """Make a version the champion, if the last backtest of both shows that it is better than the champion."""
    from jobs.registry.promote_model import Asked
    from jobs.registry.promote_model import promote as make_champion

    asked = Asked(datetime.now(UTC), by or getpass.getuser(), why)
    change = make_champion(load_settings(conf), version, asked, force, "" if conf == DEMO else str(conf))
    console.print(f"Version {change.after} is the champion, instead of version {change.before}.")
    console.print(str(change.evidence) if change.evidence else "No backtest has measured both.")
    console.print(f"The next night ranks by it. To rank by it now: recsys nightly --no-train --conf {conf}")


@models.command()
def rollback(conf: Conf = DEMO, why: Why = "", by: By = None) -> None:
    """Make the previous champion the champion again; each further call goes one champion back."""
    from jobs.registry.promote_model import Asked
    from jobs.registry.promote_model import rollback as roll_back

    change = roll_back(load_settings(conf), Asked(datetime.now(UTC), by or getpass.getuser(), why))
    console.print(
        f"Version {change.after} is the champion again, instead of version {change.before}.",
        "The next night ranks by "
        f"it. To rank by it now: recsys nightly --no-train --conf {conf}, or recsys snapshots rollback --conf {conf}",
    )


@models.command("log")
def show_log(conf: Conf = DEMO) -> None:
    """Show the log of promotions and rollbacks: when, who, which version and why."""
    from cli.tables.models import print_changes
    from jobs.registry.promote_model import log_of

    print_changes(log_of(load_settings(conf)).changes(), console)


@models.command()
def live(
    at: Annotated[str | None, typer.Option(help="Instant such as 2026-03-01T12:00:00Z; now by default.")] = None,
    conf: Conf = DEMO,
) -> None:
    """Show which version was the champion at an instant, by the log."""
    from jobs.registry.promote_model import log_of

    instant = from_micros(parse_instant(at)) if at else datetime.now(UTC)
    change = log_of(load_settings(conf)).live_at(instant)
    if change is None:
        raise ConfigurationError(
            f"--at {instant:%Y-%m-%d %H:%M} UTC, must be at or after the first change that 'recsys models log' shows"
        )
    console.print(
        f"Version {change.after} of {change.model}, since {change.at:%Y-%m-%d %H:%M} UTC by {change.by}: {change.why}"
    )


@models.command()
def drift(
    conf: Conf = DEMO,
    nights: Annotated[int, typer.Option(min=1, help="Number of nights, the latest ones.")] = 30,
    json_file: JsonFile = None,
) -> None:
    """Show inputs, ranking quality and calibration of each night."""
    from cli.tables.models import print_nights
    from recsys.pipeline.night_values import read_night_values

    found = read_night_values(load_settings(conf).place)[-nights:]
    print_nights(found, console)
    if json_file:
        json_file.write_text(json.dumps([each.model_dump(mode="json") for each in found], indent=2) + "\n")
