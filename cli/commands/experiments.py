"""`recsys experiment …`: A/B tests, from a file to a verdict."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.commands.options import DEMO, AsOf, Conf, JsonFile, console, pairs
from recsys.config.settings import Settings, known_policies, load_settings
from recsys.console import TextTable, progress_bar
from recsys.errors import ConfigurationError
from recsys.experiments.accepted import IN_FORCE, AcceptedFiles, written_file
from recsys.experiments.files import load_experiments
from recsys.experiments.settings import ExperimentFile
from recsys.ids import trimmed
from recsys.instants import from_micros, parse_instant, to_micros
from recsys.reports.wording import number, percent
from recsys.wording import plural

if TYPE_CHECKING:
    from jobs.experiments.past_experiment import PastUsers

experiment = typer.Typer(
    no_args_is_help=True,
    help="A/B tests: validate and compare experiment files, plan a test, analyse it.\n\n"
    "There is one YAML file per surface, in the folder named by 'serving.experiments'; conf/experiments/home.yaml "
    "explains every key. Steps: **validate** the file, **diff** it, write it to the folder (a running service loads it "
    "within a second), run **recsys nightly** if it needs a new policy, and **analyze** as often as you like.",
)


class Reward(StrEnum):
    """The outcome of a page."""

    visits = "visits"
    purchases = "purchases"
    revenue = "revenue"


Key = Annotated[str, typer.Argument(help="The experiment's key.")]
ComparisonKey = Annotated[str, typer.Argument(help="The key of the experiment or of the holdout.")]
SurfaceName = Annotated[str, typer.Option("--surface", help="Surface of the file SURFACE.yaml.")]
OtherFile = Annotated[Path | None, typer.Option("--file", help="File to use instead of the configured one.")]


@experiment.command()
def validate(file: OtherFile = None, conf: Conf = DEMO, surface: SurfaceName = "home") -> None:
    """Check a file, its changes to running experiments, and its names: policies, attributes, segments.

    Names are checked for experiments of any date and status except stopped ones. A policy must be one of the shop's; an
    attribute that no user and no logged page has yet is a warning, since the website may send it from tomorrow on.
    """
    settings = load_settings(conf)
    path = file or _configured_path(settings, surface)
    written = load_experiments(path)
    _check_transition(settings, surface, written)
    _check_snapshot(settings, surface, written)
    _print_experiments(written)
    warnings = _attribute_warnings(settings, written)
    for each in warnings:
        console.print(f"WARN  {each}", style="yellow")
    passed = f"PASS, with {plural(len(warnings), 'warning')}" if warnings else "PASS"
    console.print(f"{passed}  {path}, configuration {written.fingerprint}")


@experiment.command()
def diff(
    file: Annotated[Path, typer.Argument(help="The new file.")],
    against: Annotated[Path | None, typer.Option(help="File to compare it with; the file in force by default.")] = None,
    conf: Conf = DEMO,
    surface: SurfaceName = "home",
    sample: Annotated[int, typer.Option(min=1, help="Number of users to sample from the published snapshot.")] = 10_000,
    as_of: AsOf = None,
    json_file: JsonFile = None,
) -> None:
    """Show how many users would enter, leave or change variant under a new file."""
    from recsys.experiments.changes import changes

    settings = load_settings(conf)
    old = load_experiments(against) if against else _load_in_force(settings, surface)
    found = changes(old, load_experiments(file), _sample(settings, sample), _instant_or_now(as_of))
    table = TextTable("experiment", "before", "after", "enter", "leave", "change variant", labels=1)
    for each in found.experiments:
        table.add_row(each.experiment, *(f"{count:,}" for count in each[1:]))
    console.print(table)
    console.print(f"{found.served_otherwise:,} of {plural(found.users, 'user')} would be served another page.")
    _write_json(json_file, {**found._asdict(), "experiments": [each._asdict() for each in found.experiments]})


@experiment.command()
def assign(
    user: Annotated[str, typer.Argument(help="The user.")],
    file: OtherFile = None,
    conf: Conf = DEMO,
    surface: SurfaceName = "home",
    attributes: Annotated[list[str], typer.Option("--attribute", help="For targeting, NAME=VALUE; repeatable.")] = [],  # noqa: B006
    as_of: AsOf = None,
) -> None:
    """Show which variant a user is served, and why."""
    from recsys.experiments.analysis.analyze import in_words
    from recsys.experiments.assignment import Assigner
    from recsys.experiments.inclusion import exclusions

    written = load_experiments(file or _configured_path(load_settings(conf), surface))
    user, given, now = trimmed(user), pairs(attributes, "--attribute"), _instant_or_now(as_of)
    assigned = Assigner(written).assign(user, given, now)
    log = assigned.assignment
    variant = "default"
    if log is not None and log.experiment:  # empty with the kill switch
        variant = f"{log.experiment}, phase {log.phase}: {log.variant} ({log.reason}, bucket {log.bucket})"
    instant = f"{from_micros(now):%Y-%m-%d %H:%M:%S} UTC"
    console.print(f"{user}: {variant}; served {in_words(assigned.served)}; as of {instant}")
    for each in exclusions(written, user, given, now):
        console.print(f"  not in {each.key}: {each.reason}" if each.key else f"  {each.reason}")


@experiment.command()
def plan(
    key: Key,
    effects: Annotated[list[float], typer.Option("--effect", help="Relative effect, such as 0.05; repeatable.")] = [  # noqa: B006
        0.01,
        0.02,
        0.05,
        0.1,
        0.2,
    ],
    days: Annotated[int, typer.Option(min=2, help="Number of past days to estimate from.")] = 28,
    file: OtherFile = None,
    conf: Conf = DEMO,
    surface: SurfaceName = "home",
    as_of: AsOf = None,
    json_file: JsonFile = None,
) -> None:
    """Compute the users and days that an experiment needs to detect an effect, from past events."""
    from jobs.experiments.past_experiment import past_users
    from recsys.experiments.analysis.planning import plan as planned

    settings = load_settings(conf)
    written = load_experiments(file or _configured_path(settings, surface))
    chosen = written.experiment(key)
    past = past_users(settings, written, key, days, _night_instant(settings, as_of))
    taken_in = [n * past.share_taken_in for n in past.new_users]
    found = {metric.name: planned(chosen, metric, past.sums, taken_in, effects) for metric in chosen.analysis.primary}
    table = TextTable("metric", "relative effect", "absolute effect", "users", "days", labels=1)
    for metric, plans in found.items():
        for each in plans:
            duration = "never" if each.days is None else f"{each.days:,}"
            table.add_row(metric, f"{each.effect:+.1%}", number(each.absolute, "+"), f"{each.users:,}", duration)
    console.print(table)
    console.print(
        f"Estimated from {plural(past.sums.n, 'user')} in {plural(days, 'day')}; alpha {chosen.analysis.alpha:g}, "
        f"power {percent(chosen.analysis.power)}. Days include {plural(chosen.analysis.attribution_days, 'day')} of "
        "attribution."
    )
    _print_taken_in(past)
    _write_json(json_file, {metric: [asdict(each) for each in plans] for metric, plans in found.items()})


@experiment.command("simulate-aa")
def simulate_aa(
    key: Key,
    splits: Annotated[int, typer.Option(min=20, help="Number of A/A tests.")] = 500,
    days: Annotated[int, typer.Option(min=2, help="Number of past days whose events are used.")] = 14,
    file: OtherFile = None,
    conf: Conf = DEMO,
    surface: SurfaceName = "home",
    as_of: AsOf = None,
    json_file: JsonFile = None,
) -> None:
    """Simulate A/A tests on past events, to check that the false positive rate is as configured."""
    from cli.tables.experiments import print_simulation
    from jobs.experiments.past_experiment import past_users
    from recsys.experiments.analysis.simulation import simulate_aa as simulated

    settings = load_settings(conf)
    written = load_experiments(file or _configured_path(settings, surface))
    instant = _night_instant(settings, as_of)
    past = past_users(settings, written, key, days, instant)
    seeds = [f"simulated:{number}:" for number in range(splits)]
    result = simulated(past.experiment, past.user_days, seeds, from_micros(instant), _with_progress)
    print_simulation(result, console)
    _print_taken_in(past)
    _write_json(json_file, asdict(result))
    if not result.passes:
        raise typer.Exit(1)


@experiment.command()
def analyze(
    key: ComparisonKey,
    conf: Conf = DEMO,
    surface: SurfaceName = "home",
    as_of: AsOf = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; by default inside the shop's folder.")] = None,
) -> None:
    """Analyse an experiment or a holdout: print the verdict, and write result.json, report.md and report.html.

    A holdout is compared with all other users: what all experiments together have changed.
    The command can be run at any time; only the always-valid interval justifies stopping an experiment early.
    """
    judge(load_settings(conf), surface, key, _instant_or_now(as_of), out)


@experiment.command()
def evaluate(
    key: Key,
    policy: Annotated[str, typer.Option(help="Policy of the snapshots to evaluate, such as collaborative.")],
    reward: Annotated[
        Reward, typer.Option(help="Outcome of a page, attributed by the tokens of recorded events.")
    ] = Reward.purchases,
    conf: Conf = DEMO,
    surface: SurfaceName = "home",
    as_of: AsOf = None,
    json_file: JsonFile = None,
) -> None:
    """Estimate the reward of another policy from pages that a variant with exploration drew at random (off-policy)."""
    from jobs.experiments.evaluate_policy import evaluate_policy
    from recsys.experiments.off_policy.estimators import FEWEST_REWARDED

    settings = load_settings(conf)
    chosen = _load_configured(settings, surface).experiment(key)
    found = evaluate_policy(settings, chosen, policy, reward.value, _instant_or_now(as_of))
    table = TextTable(f"{reward.value} per page", "value", "95% interval", "difference", "95% interval", labels=1)
    table.add_row("logged", f"{found.logged.value:.4g}", f"{found.logged.low:.4g} to {found.logged.high:.4g}")
    for name, value in found.values.items():
        difference = found.differences[name]
        intervals = (f"{value.low:.4g} to {value.high:.4g}", f"{difference.low:+.4g} to {difference.high:+.4g}")
        of_value, of_difference = intervals if found.is_enough else ("too few to tell",) * 2
        table.add_row(name, f"{value.value:.4g}", of_value, f"{difference.value:+.4g}", of_difference)
    console.print(table)
    if not found.is_enough:
        console.print(
            f"WARN  {plural(found.rewarded, 'rewarded position')} that {policy} might show too, an interval needs "
            f"{FEWEST_REWARDED} or more: wait for more pages, or count visits",
            style="yellow",
        )
    console.print(
        f"{plural(found.pages, 'page')} of {plural(found.users, 'user')}; differences are from the logged policy; "
        f"{plural(found.rewarded, 'rewarded position')} that {policy} might show too; "
        f"overlap {found.support.value:.2f} ({found.support.low:.2f} to {found.support.high:.2f}), "
        f"largest weight {found.max_weight:,.0f}"
    )
    _write_json(json_file, {**asdict(found), "is_enough": found.is_enough})


def judge(settings: Settings, surface: str, key: str, as_of: int, out: Path | None = None) -> Path:
    """Analyse an experiment, print the verdict, write the report, and return the path of its HTML."""
    from cli.tables.experiments import print_result
    from jobs.experiments.analyze_experiment import EXPERIMENTS, comparison, phase_folder, summarise_phase
    from recsys.experiments.analysis.analyze import analyze as analyzed
    from recsys.reports.experiment.writer import write_report

    file = _load_configured(settings, surface)
    chosen = comparison(settings, file, key, as_of)
    result = analyzed(chosen, summarise_phase(settings, file, key, as_of, surface), from_micros(as_of))
    written = write_report(
        result, out or settings.own_disk / EXPERIMENTS / phase_folder(settings, chosen).name / "report"
    )
    print_result(result, console)
    console.print("", f"Report: {written.html}")
    return written.html


def _configured_path(settings: Settings, surface: str) -> Path:
    if settings.serving.experiments is None:
        raise ConfigurationError(
            "serving.experiments == None, must be the folder of the experiment files, such as conf/experiments: set "
            "it, or give --file"
        )
    return written_file(Path(settings.serving.experiments), surface)


def _load_configured(settings: Settings, surface: str) -> ExperimentFile:
    """Load the configured file, or the one in force if the configured file is invalid."""
    path = _configured_path(settings, surface)
    files, problems = AcceptedFiles(path.parent, settings.own_disk / IN_FORCE).as_written()
    if surface not in files:
        raise ConfigurationError("; ".join(problems) or f"{path} does not exist")
    return files[surface]


def _load_in_force(settings: Settings, surface: str) -> ExperimentFile:
    files = AcceptedFiles(Path(), settings.own_disk / IN_FORCE).in_force()
    if surface not in files:
        raise ConfigurationError(f"no file is in force for surface {surface!r}: give --against FILE")
    return files[surface]


def _check_transition(settings: Settings, surface: str, written: ExperimentFile) -> None:
    from recsys.experiments.transition import check_transition

    in_force = AcceptedFiles(Path(), settings.own_disk / IN_FORCE).in_force().get(surface)
    if in_force is not None:
        check_transition(in_force, written, datetime.now(UTC))


def _check_snapshot(settings: Settings, surface: str, written: ExperimentFile) -> None:
    from recsys.experiments.names import unknown_policies
    from recsys.snapshot import store as snapshot_store
    from recsys.snapshot.format import Snapshot
    from serving.answers.running_experiments import check_served

    name = snapshot_store.current(settings.snapshots_folder)
    snapshot = None if name is None else Snapshot.open(settings.snapshots_folder / name)
    known = {*known_policies(settings), *(snapshot.all_policies if snapshot else ())}
    if problems := list(unknown_policies(written, known)):
        raise ConfigurationError("unknown policies:\n" + "\n".join(f"  {each}" for each in problems))
    if snapshot is None:
        console.print("  No snapshot is published yet: whether it has the policies is not checked.")
        return
    check_served(surface, written, snapshot, snapshot.as_of)


def _attribute_warnings(settings: Settings, written: ExperimentFile) -> list[str]:
    from jobs.experiments.user_attributes import attribute_names
    from recsys.experiments.names import unknown_attributes

    known = attribute_names(settings)
    return list(unknown_attributes(written, known)) if known else []


def _sample(settings: Settings, count: int) -> dict[str, dict[str, str]]:
    """Sample at most `count` users of the published snapshot, with their attributes where any are known."""
    from jobs.experiments.user_attributes import user_attributes
    from recsys.snapshot import store as snapshot_store
    from recsys.snapshot.format import Snapshot

    name = snapshot_store.current(settings.snapshots_folder)
    if name is None:
        raise ConfigurationError("no snapshot is published to sample users from: run 'recsys nightly'")
    snapshot = Snapshot.open(settings.snapshots_folder / name)
    users = snapshot.users.sample(count)
    known = user_attributes(settings, users)
    return {user: known.get(user, {}) for user in users}


def _print_experiments(file: ExperimentFile) -> None:
    table = TextTable("experiment", "type", "status", "phase", "from", "to", "coverage", "variants")
    for each in file.experiments:
        window = (f"{instant:%Y-%m-%d}" for instant in (each.start, each.end))
        variants = ", ".join(
            f"{variant.key} ({variant.ranking})" if variant.ranking else variant.key for variant in each.variants
        )
        table.add_row(each.key, each.type, each.status, str(each.phase), *window, f"{each.coverage:.0%}", variants)
    console.print(table)


def _print_taken_in(past: "PastUsers") -> None:
    """Print how many of the past users the experiment would have taken in."""
    targeted = sum(past.new_users)
    console.print(
        f"{plural(past.all_users, 'user')} came, {targeted:,} of them targeted, of whom the experiment takes in "
        f"{percent(past.share_taken_in)}, {round(targeted * past.share_taken_in):,}: beside holdouts and experiments "
        "before it in the file, by layer and coverage."
    )
    if past.experiment.targeting is not None and not past.knows_attributes:
        console.print("Note: no attributes of users are known yet, so targeting is ignored.")


def _with_progress(seeds: Sequence[str]) -> Iterator[str]:
    with progress_bar(console) as progress:
        yield from progress.track(seeds, description="Simulating A/A tests")


def _instant_or_now(as_of: str | None) -> int:
    return parse_instant(as_of) if as_of else to_micros(datetime.now(UTC))


def _night_instant(settings: Settings, as_of: str | None) -> int:
    """Return the instant that a night would have: the one asked for, the configured one, or the last midnight UTC."""
    if as_of:
        return parse_instant(as_of)
    return to_micros(settings.as_of or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0))


def _write_json(file: Path | None, value: object) -> None:
    if file:
        file.write_text(json.dumps(value, indent=2, default=str) + "\n")
