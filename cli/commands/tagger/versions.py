"""`recsys tagger versions | promote | rollback | drift`: versions of a taxonomy's tagger."""

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.commands.options import DEMO, Conf, console
from recsys.config.settings import Settings, load_settings

if TYPE_CHECKING:
    from recsys.images.lab.trained_tagger import TrainedTagger

TaxonomyName = Annotated[str, typer.Argument(help="Name of the taxonomy, such as rooms.")]
Version = Annotated[str, typer.Argument(help="A number or an alias, such as 5 or challenger.")]
By = Annotated[str | None, typer.Option(help="Author of the change; the user of the operating system by default.")]
Why = Annotated[str, typer.Option(help="Reason for the change, for the log.")]


def register(settings: Settings, tagger: "TrainedTagger", folder: Path) -> None:
    """Register a version that was trained, and say what it is used for."""
    from jobs.registry.taggers import register_tagger, tagger_versions

    name = tagger.taxonomy.name
    number = register_tagger(settings, tagger, folder)
    aliases = next(each.aliases for each in tagger_versions(settings, name) if each.number == number)
    if "champion" in aliases:
        use = f"the champion: nights use it where images.taggers names {{taxonomy: {name}}}"
    else:
        use = f"not used before 'recsys tagger promote {name} {number}'"
    console.print(f"Version {number} of tagger {name}, {use}.")


def versions(taxonomy: TaxonomyName, conf: Conf = DEMO) -> None:
    """List the versions of a tagger, newest first, with what they reached on photos that they had not learnt."""
    from cli.tables.tagger_versions import print_versions
    from jobs.registry.taggers import tagger_versions

    print_versions(tagger_versions(load_settings(conf), taxonomy), taxonomy, console)


def drift(
    taxonomy: TaxonomyName,
    version: Version = "challenger",
    against: Annotated[str, typer.Option(help="The version to compare with.")] = "champion",
    conf: Conf = DEMO,
) -> None:
    """Show what a change of version does to the shop's photos: how many change their label, by label."""
    from cli.tables.tagger_versions import print_drift
    from jobs.lab import compare_taggers
    from jobs.registry.taggers import version_of

    settings = load_settings(conf)
    new, old = (version_of(settings, taxonomy, name) for name in (version, against))
    print_drift(compare_taggers.drift(settings, taxonomy, new, old), console)


def promote(
    taxonomy: TaxonomyName,
    version: Version = "challenger",
    conf: Conf = DEMO,
    force: Annotated[
        bool, typer.Option("--force", help="Also where it may be worse; requires --why, and is logged.")
    ] = False,
    why: Why = "",
    by: By = None,
) -> None:
    """Make a version the champion, which nights and services use.

    Both versions are compared on the same photos of the test part: the 95 % interval of the difference in accuracy must
    lie above -1 point. Before that, the command shows how many photos of the shop change their label.
    """
    from cli.tables.tagger_versions import print_drift
    from jobs.lab import compare_taggers
    from jobs.registry.promote_model import Asked
    from jobs.registry.taggers import champion_number, promote_tagger, version_of

    settings = load_settings(conf)
    new, found = version_of(settings, taxonomy, version), None
    if champion_number(settings, taxonomy) is not None:
        old = version_of(settings, taxonomy, "champion")
        print_drift(compare_taggers.drift(settings, taxonomy, new, old), console)
        found = compare_taggers.evidence(settings, taxonomy, new, old)
    asked = Asked(datetime.now(UTC), by or getpass.getuser(), why)
    change = promote_tagger(settings, taxonomy, version, asked, found, force)
    instead = f", instead of version {change.before}" if change.before else ""
    console.print(f"Version {change.after} of tagger {taxonomy} is the champion{instead}: {change.why}.")
    console.print("The next night tags by it; no photo is read again.")


def rollback(taxonomy: TaxonomyName, conf: Conf = DEMO, why: Why = "", by: By = None) -> None:
    """Make the previous champion the champion again; each further call goes one champion back."""
    from jobs.registry.promote_model import Asked
    from jobs.registry.taggers import rollback_tagger

    change = rollback_tagger(load_settings(conf), taxonomy, Asked(datetime.now(UTC), by or getpass.getuser(), why))
    console.print(
        f"Version {change.after} of tagger {taxonomy} is the champion again, instead of version {change.before}."
    )
