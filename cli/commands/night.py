"""`recsys validate | nightly | refresh | backtest`: the commands that run jobs."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.commands.options import DEMO, AsOf, Conf, JsonFile, console, instants, this_hour
from cli.commands.service import push_if_shared
from recsys.config.settings import load_settings
from recsys.console import print_error
from recsys.errors import ConfigurationError, EmptyInputError, NightCheckError, RejectedRowsError
from recsys.instants import DAY, MINUTE, from_micros, parse_instant
from recsys.snapshot.format import read_manifest

if TYPE_CHECKING:
    from jobs.engine.run import Run


def validate(
    conf: Conf = DEMO,
    as_of: AsOf = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write the profile to this file, as one HTML page with plots.")
    ] = None,
) -> None:
    """Check the source tables, and say what they hold: print three rows of each raw table as they were read, every rule
    with its result, and a profile.

    Results are PASS, NOTE for rows without harm, FAIL for broken rows. The profile has numbers of events, sales and
    users, what looks wrong, what to set in the configuration and why, and what there is too little data for.
    """
    from cli.tables.raw_rows import print_raw_rows
    from jobs.engine.nights import night
    from jobs.night.validate_tables import read_raw_rows

    asked, today = instants(as_of)
    run = night(load_settings(conf), asked, today)
    print_raw_rows(read_raw_rows(run), console)
    check_tables(run, today, conf.stem, html)


def check_tables(run: "Run", today: int, shop: str, html: Path | None = None) -> None:
    """Check the source tables of a night, and print every rule with its result, and a profile.

    Args:
        run: The night.
        today: The last midnight UTC, microseconds.
        shop: Name of the shop, for the title of the report.
        html: File of the report; none by default.

    Raises:
        EmptyInputError: If no sale can be used.
        RejectedRowsError: If too many rows break a rule.
    """
    from cli.tables.profile import print_profile
    from cli.tables.results import print_rules
    from jobs.night.profile_tables import profile_tables
    from jobs.night.validate_tables import VALIDATE_TABLES
    from recsys.data_profile.advice import advise
    from recsys.data_profile.rule_counts import REFUSED_RULE_COUNTS, RULE_COUNTS

    try:
        run.do((VALIDATE_TABLES,))
    except (EmptyInputError, RejectedRowsError):
        print_rules(run.folder / REFUSED_RULE_COUNTS, console)
        raise
    print_rules(run.outputs / RULE_COUNTS, console)
    profile = profile_tables(run)
    advised = advise(profile, run.settings, today)
    print_profile(profile, advised, console)
    if html:
        from recsys.reports.profile.writer import write_report  # here: it imports matplotlib, which takes a second

        write_report(profile, advised, json.loads((run.outputs / RULE_COUNTS).read_text()), html, shop)
        console.print("", f"Report: {html}")


def nightly(
    conf: Conf = DEMO,
    as_of: AsOf = None,
    train: Annotated[
        bool | None, typer.Option(help="Whether to train a new version; by default if the newest one is too old.")
    ] = None,
    hourly: Annotated[
        bool,
        typer.Option(
            "--hourly",
            help="Rank once more between two nights, as of the start of this hour: trains nothing, and its snapshots "
            "and values are kept apart from those of nights.",
        ),
    ] = False,
    publish: Annotated[
        bool,
        typer.Option(
            "--publish/--no-publish", help="Whether the snapshot is served, or only kept: for tries and past nights."
        ),
    ] = True,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="Remove the night's tables, and make all of them anew from the raw tables. The result is the same: "
            "for doubts, and raw files that were changed without a new size or time.",
        ),
    ] = False,
) -> None:
    """Run the night: validate, fit, train if due, score every user by the champion, publish a snapshot.

    Steps whose inputs, settings and code are unchanged are skipped: after a crash, run the same command. A night of the
    past is never published while a later one is served; *recsys snapshots activate* does so.

    **Day by day.** Where the files of raw events have dates in their names, such as *day=2026-03-01*, only new and
    changed days are read; the others, and users' histories, are carried on from the night before (docs/raw_tables.md).
    The log says what was read. *--rebuild* carries on nothing.
    """
    from jobs.engine.nights import instant_of, night
    from jobs.night.nightly import nightly as do_night
    from jobs.registry.retraining import training_is_due
    from recsys.snapshot import store as snapshot_store

    settings = load_settings(conf)
    if hourly and train:
        raise ConfigurationError("--hourly trains nothing: give it without --train, and let the night train")
    instant = parse_instant(as_of) if as_of else None
    instant = instant or this_hour() if hourly else instant_of(settings, *instants(as_of))
    trains = not hourly and (training_is_due(settings, instant) if train is None else train)
    root = settings.snapshots_folder
    last = snapshot_store.publications(root)[-1:]
    run = night(settings, instant, trains=trains, is_hourly=hourly, publishes=publish, rebuilds=rebuild)
    name = do_night(run)
    if publish:
        push_if_shared(settings)
    for line in read_manifest(root / name).left_out if (root / name).exists() else ():
        console.print(f"Without {line}.")
    is_new = snapshot_store.publications(root)[-1:] != last
    if not publish:
        console.print(f"Snapshot {name} is not published: 'recsys snapshots activate {name}' serves it.")
        return
    console.print(what_is_served(root, name, is_new), f"Next: recsys serve --conf {conf}")


def backfill(
    start: Annotated[str, typer.Option("--from", help="First night, such as 2026-02-01 or 2026-02-01T03:00:00Z.")],
    end: Annotated[str, typer.Option("--to", help="Last night, inclusive.")],
    conf: Conf = DEMO,
) -> None:
    """Run a night for each day of a range in the past, and publish none of them.

    Each trains a new version if one was due then. Nights that are done are skipped, so that the same command goes on
    where it was killed; one that fails its checks is named, and the others are run. Their tables and snapshots stay
    until the next night is published: see *nights.keep* and *snapshots.keep*.
    """
    from jobs.engine.nights import night
    from jobs.night.nightly import nightly as do_night
    from jobs.registry.retraining import training_is_due

    settings, (first, last) = load_settings(conf), (parse_instant(each) for each in (start, end))
    if last < first:
        raise ConfigurationError(f"--to == {end}, must not be before --from == {start}")
    failed = []
    for as_of in range(first, last + 1, DAY):
        try:
            do_night(night(settings, as_of, trains=training_is_due(settings, as_of), publishes=False))
        except NightCheckError as error:
            print_error(error)
            failed.append(f"{from_micros(as_of):%Y-%m-%d}")
    if failed:
        raise NightCheckError(f"{', '.join(failed)} failed the checks of 'night_checks', all other nights are done")
    console.print(f"All nights from {start} to {end} are done, none is published: 'recsys snapshots list' shows them.")


def pack(
    folder: Annotated[Path, typer.Argument(help="Folder for recsys.zip, job.py and requirements.txt.")],
) -> None:
    """Write what a machine without this installation needs to submit jobs to a cluster.

    *spark-submit --py-files recsys.zip job.py MODULE ARGUMENTS* runs a module, such as *cli.main nightly* or
    *jobs.night.score_users*; the packages of requirements.txt must be installed there and on the cluster
    (docs/cluster.md).
    """
    from jobs.engine.packing import pack as write_pack

    console.print(*(f"Written: {path}" for path in write_pack(folder)), sep="\n")


def refresh(conf: Conf = DEMO) -> None:
    """Bring the sales that were added, changed or withdrawn since the night onto the pages, in a minute or so.

    Reads the raw tables of sales and photos again, by the same rules as the night; tags the photos that are new; and
    publishes a snapshot of the same night with these sales: their windows, texts, prices, attributes, photos, themes
    and profiles. Nothing is trained, no event is counted, no user is ranked: live ranking ranks new sales with all
    others, and pages by a kept ranking are filled up with them. A sale that the table has no more is on no page.

    **When.** Every 15 minutes, say, from cron, systemd or Kubernetes (docs/night.md). If nothing has changed, it
    publishes nothing. While a night runs it does nothing and exits with status 1: the night brings all sales. Killed
    at any moment, it can be run again.

    **Instead of it**, *recsys nightly --hourly* also ranks all users by what they did since, at the price of a night
    without training. New settings of recommenders, and a new version of a tagger, take effect with the next night.
    """
    from jobs.night.refresh import refresh as do_refresh
    from recsys.snapshot import store as snapshot_store

    settings, start = load_settings(conf), time.monotonic()
    done = do_refresh(settings)
    push_if_shared(settings)
    seconds = time.monotonic() - start
    served = snapshot_store.current(settings.snapshots_folder)
    if done.brought:
        console.print(f"Published snapshot {done.name}: {done.brought}, ready in {seconds:.0f} s.")
    elif served == done.name:
        console.print(f"Nothing to publish: snapshot {done.name} has the sales as they are, {seconds:.0f} s.")
    else:
        console.print(
            f"Nothing was published: snapshot {done.name} has the sales as they are, and {served} is served since a "
            "rollback; changed sales, or the next night, publish."
        )


def what_is_served(root: Path, name: str, is_new: bool) -> str:
    """Say whether a night published its snapshot, and which one is served if not that one.

    Args:
        root: The folder of snapshots.
        name: The night's snapshot, which may have been removed since an earlier run wrote it.
        is_new: Whether the run has changed the current snapshot.
    """
    from recsys.snapshot import store as snapshot_store

    served = snapshot_store.current(root)
    if is_new:
        return f"Published snapshot {name}."
    if served == name:
        return f"Nothing to publish: snapshot {name} of this night is served already."
    if (root / name).exists() and served and name.partition("-")[0] < served.partition("-")[0]:
        return (
            f"Snapshot {name} is kept and not published: {served} of a later night is served. "
            f"'recsys snapshots activate {name}' serves it instead."
        )
    why = "was removed since, see 'snapshots.keep'" if not (root / name).exists() else "is not the current one"
    return (
        f"Nothing was published: the night is unchanged, and its snapshot {name} {why}. Served is {served or 'none'}; "
        "a night with another --as-of, or with changed data or settings, publishes."
    )


def backtest(
    start: Annotated[str, typer.Option("--from", help="First day, such as 2026-02-01.")],
    end: Annotated[str, typer.Option("--to", help="Last day, inclusive.")],
    conf: Conf = DEMO,
    json_file: JsonFile = None,
    days_sampled: Annotated[
        int | None, typer.Option(help="Number of days of the window to sample; all by default.")
    ] = None,
    users_sampled: Annotated[
        float | None,
        typer.Option(
            min=1e-6, max=1, help="Share of the users to sample; by default all, or those of some 200,000 pages."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of both samples and of the intervals.")] = 0,
    versions: Annotated[
        str | None, typer.Option(help="Versions to compare, such as 5,6; champion and challenger by default.")
    ] = None,
    check_leaks: Annotated[
        bool,
        typer.Option(
            "--check-leaks",
            help="Instead of measuring, check that no feature uses data from after its day: compute the features of "
            "200 users and all sales as of three of the days used for training or ranking, and once more with all "
            "later data changed, deleted and shuffled.",
        ),
    ] = False,
    new_only: Annotated[bool, typer.Option("--new-only", help="Leave repeat purchases out of each page.")] = False,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Also rank each page as the service does by day, by what all users did up to a moment before it, and "
            "print it beside the page as of midnight, by age of the sale and hour of the day.",
        ),
    ] = False,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers",
            help="Also measure what one could pick instead, tuned on earlier days: chance, the newest sales, "
            "popularity, the library implicit's item-item models and ALS. They are fitted to all users in memory.",
        ),
    ] = False,
    lag_minutes: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="With --live: how long before the session of the purchase counts end, in minutes; 15 if left out.",
        ),
    ] = None,
    without_tagger: Annotated[
        list[str] | None,
        typer.Option(
            help="Name or taxonomy of a tagger of images.taggers: also measure the meta-model without what its tags "
            "bring, on the same pages; takes as long again. Can be given more than once."
        ),
    ] = None,
) -> None:
    """Rank each past day by what was known at its midnight, and measure against the purchases of the day."""
    from cli.tables.results import print_backtest
    from jobs.backtest.backtest import backtest as measure
    from jobs.backtest.backtest import window

    if check_leaks and (
        versions is not None or new_only or live or peers or users_sampled is not None or without_tagger
    ):
        raise ConfigurationError(
            "--check-leaks measures nothing: give it without --versions, --new-only, --live, --peers, --users-sampled, "
            "--without-tagger"
        )
    if lag_minutes is not None and not live:
        raise ConfigurationError(
            f"--lag-minutes == {lag_minutes:g} without --live, must be with it: pages as of midnight have no lag"
        )
    first, last = (parse_instant(day) for day in (start, end))
    chosen = [version.strip() for version in versions.split(",") if version.strip()] if versions is not None else None
    run = window(load_settings(conf), first, last, days_sampled, seed)
    if check_leaks:
        _check_leaks(run, seed, json_file)
        return
    lag = round((15 if lag_minutes is None else lag_minutes) * MINUTE) if live else None
    result = measure(run, users_sampled, seed, chosen, new_only, without_tagger or (), lag, peers)
    print_backtest(result, console)
    if json_file:
        json_file.write_text(json.dumps(result, indent=2) + "\n")


def _check_leaks(run: "Run", seed: int, json_file: Path | None) -> None:
    from cli.tables.leaks import print_leaks
    from jobs.backtest.check_leaks import check_leaks
    from recsys.pipeline.leaks import refuse_leaks

    result = check_leaks(run, seed=seed)
    print_leaks(result, console)
    if json_file:
        json_file.write_text(json.dumps(result, indent=2) + "\n")
    refuse_leaks(result)
