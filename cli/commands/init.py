"""`recsys init`: looks into a shop's files, asks what cannot be guessed, and writes a configuration."""

import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import available_timezones

import typer

from cli.commands.night import check_tables
from cli.commands.options import console, instants, pairs
from recsys.console import TextTable, line
from recsys.errors import ConfigurationError
from recsys.instants import DAY
from recsys.wording import did_you_mean, listed, plural, visible

if TYPE_CHECKING:
    from recsys.config.pipeline import RawTable
    from recsys.config.settings import Settings
    from recsys.onboarding.columns import Column, Kind
    from recsys.onboarding.guesses import Guess
    from recsys.onboarding.plan import Plan
    from recsys.onboarding.sampling import Sample

_CONF = Path("conf")
_FOLDERS = Path("var")
"""Where a shop's folder is."""
_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_EVERY_ROW = "*"
_PAST = 3 * DAY
"""A shop whose last event is older than this is one of the past."""
_KINDS: tuple["Kind", ...] = ("visit", "purchase", "neither")


def init(
    name: Annotated[str, typer.Argument(help="Name of the shop, a plain word such as my_shop.")],
    events: Annotated[
        list[str],
        typer.Option(
            "--events",
            help="What users did: visits, orders, or both. Given once for each file, if visits and orders are apart.",
        ),
    ],
    sales: Annotated[
        str | None,
        typer.Option("--sales", help="The sales, products or articles; by default those that the events name."),
    ] = None,
    users: Annotated[
        str | None, typer.Option("--users", help="What is known about users, such as their country.")
    ] = None,
    images: Annotated[str | None, typer.Option("--images", help="Addresses or paths of the sales' photos.")] = None,
    timezone: Annotated[
        str | None,
        typer.Option(help="Zone of instants that do not say theirs, such as Europe/Paris; UTC if it is not asked for."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="What a column is, such as sales.title=Headline; sales.price= for none. Can be given more than once."
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="What a value of the column of kinds means: add_to_cart=visit, purchase or neither; FILE=visit or "
            "'*=visit' for a file without such a column. Can be given more than once."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take every proposal instead of asking.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the configuration of this name.")] = False,
) -> None:
    """Write the configuration of your own shop from its files: conf/NAME.yaml and conf/sources/NAME/*.sql.

    Looks into the files, proposes which column is what, asks where it is unsure, writes each guess with a comment, and
    checks all rows as *recsys validate* does.

    **Example.** A catalogue and a log of orders, then a first night and a home page:

        recsys init --sales data/products.csv --events data/orders.csv my_shop

        recsys nightly --conf conf/my_shop.yaml

        recsys serve --conf conf/my_shop.yaml

    **Files** are CSV, JSON or Parquet, packed or not (.gz, .bz2, .zst); a folder of such files; or a pattern in quotes:
    `'data/2026-*/*.csv'`. Avro, Delta and Iceberg tables are read too. A table of Spark's catalogue is given by its
    name, such as *lake.shop.events*. One file may hold both: *--events orders.csv* alone takes the sales from the
    orders. Two files may hold the events: *--events clicks.csv --events orders.csv*.

    **Windows.** Sales without a time at which they open and close get one from their first to their last event. It
    looks ahead, so that a backtest flatters; the features that would tell the model are left out.
    """
    from cli.tables.raw_rows import print_raw_rows
    from jobs.engine.nights import night
    from recsys.config.settings import load_settings
    from recsys.onboarding import whole_files, writing
    from recsys.onboarding.guesses import guess_columns
    from recsys.onboarding.shapes import check_rows_of_properties
    from recsys.pipeline import sources
    from recsys.pipeline.raw_rows import first_rows
    from recsys.tables.night import EVENTS, SALE_IMAGES, SALES, USERS

    path, folder = _check_name(name, force)
    kinds_given, zone = _kinds_given(kind or []), _zone(timezone)
    further = {f"events_{number}": location for number, location in enumerate(events[1:], 2)}
    locations = {"sales": sales or events[0], "events": events[0], **further, "users": users, "sale_images": images}
    by_location = {each: _read_sample(each, name) for each in dict.fromkeys(locations.values()) if each}
    samples = {table: by_location[location] for table, location in locations.items() if location}
    _print_files(by_location)
    guesses = guess_columns({table: each.columns for table, each in samples.items()}, pairs(column or [], "--column"))
    check_rows_of_properties(samples["sales"], guesses["sales.sale_id"].column, locations["sales"] or "")
    guesses = _answer(guesses, samples, yes)
    plan = _plan(name, samples, guesses, zone)
    _print_guesses(plan)
    every_kind = {
        table: _kind_of_rows(plan, table, locations[table] or "", samples[table], kinds_given, yes)
        for table in plan.event_tables
        if not plan.column(f"{table}.kind")
    }
    plan = replace(plan, zone=zone or _ask_zone(plan, yes), every_kind=every_kind)

    settings = _settings(name, plan.raw)
    run = night(settings, *instants(None))
    for key, value in writing.spark_conf(plan).items():
        run.spark.conf.set(key, value)
    raw = sources.read_raw_tables(run.spark, settings.source, settings.place)
    present = time.time_ns() // 1000
    counts = whole_files.count_events(run.spark, raw, plan, present)
    plan = replace(
        plan,
        kinds=_ask_kinds(counts.kinds, kinds_given, yes),
        conditions=writing.conditions(counts),
        last_event=counts.last if counts.last < present - _PAST else None,
        has_copies=whole_files.has_copies(run.spark, raw, plan) if plan.missing_windows else False,
    )
    if "closes_at" in plan.missing_windows:
        plan = replace(plan, margin_days=whole_files.margin_days(run.spark, raw, plan, counts.last))
    _write(plan, path, folder)

    asked, today = instants(None)
    run = night(load_settings(path), asked, today)
    tables = [table for table in (SALES, EVENTS, USERS, SALE_IMAGES) if table.name in plan.files]
    selected = {table.name: sources.select_table(run.spark, table, run.settings.source, raw) for table in tables}
    print_raw_rows(first_rows(selected), console, "selected by the SQL")
    check_tables(run, today, path.stem)
    for each in _further_steps(plan, samples, path, counts.last_user):
        console.print(each)


def _check_name(name: str, force: bool) -> tuple[Path, Path]:
    """Return the paths of the configuration and of the folder of SQL files."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"NAME == {name!r}, must be a plain word of letters, digits and _, such as my_shop")
    if not (_CONF / "base.yaml").exists():
        raise ConfigurationError(
            f"{_CONF}/base.yaml, which each shop extends, is not here: run the command in the folder of the project"
        )
    path, folder = _CONF / f"{name}.yaml", _CONF / "sources" / name
    if name == "base" or (not force and (path.exists() or folder.exists())):
        advice = "" if name == "base" else ", or replace it by --force"
        raise ConfigurationError(f"{path if path.exists() else folder} exists already: choose another name{advice}")
    return path, folder


def _settings(name: str, raw: Mapping[str, "RawTable"]) -> "Settings":
    """Return the settings of the shop that is going to be: those of base.yaml, with its files."""
    from recsys.config import strict_yaml
    from recsys.config.settings import Settings

    shared = strict_yaml.read(_CONF / "base.yaml", "conf/demo.yaml")
    own = {"folder": str(_FOLDERS / name), "source": {"sql": str(_CONF / "sources" / name), "raw": raw}}
    return Settings.model_validate(shared | own)


def _read_sample(location: str, name: str) -> "Sample":
    """Read some rows of a file, or of a table that Spark opens."""
    from recsys.onboarding.catalogue_tables import is_table_name, lake_table, read_lake_sample, read_table_sample
    from recsys.onboarding.sampling import read_sample

    raw = lake_table(location)
    if raw is None and not is_table_name(location):
        return read_sample(location)
    from jobs.engine.session import spark_session

    spark = spark_session(_settings(name, {}))
    return read_lake_sample(spark, raw) if raw else read_table_sample(spark, location)


def _zone(timezone: str | None) -> str | None:
    if timezone is not None and timezone not in available_timezones():
        raise ConfigurationError(
            f"--timezone {timezone}: must be a zone such as UTC or Europe/Paris"
            f"{did_you_mean(timezone, available_timezones())}"
        )
    return timezone


def _kinds_given(kind: list[str]) -> dict[str, "Kind"]:
    given: dict[str, Kind] = {}
    for value, meaning in pairs(kind, "--kind").items():
        found = next((each for each in _KINDS if each == meaning), None)
        if found is None:
            raise ConfigurationError(f"--kind {value}={meaning}: must be {listed(_KINDS, 'or')}")
        given[value] = found
    return given


def _print_files(samples: Mapping[str, "Sample"]) -> None:
    for location, sample in samples.items():
        format_ = sample.raw.format.upper() if sample.raw.format != "parquet" else "Parquet"
        facts = [*([] if sample.raw.table else [format_]), *sample.notes]
        rows = len(sample.columns[0].rows)
        facts.append(f"{plural(len(sample.columns), 'column')}, looked at {plural(rows, 'row')}")
        console.print(f"{location}: {', '.join(facts)}")


def _answer(guesses: dict[str, "Guess"], samples: Mapping[str, "Sample"], yes: bool) -> dict[str, "Guess"]:
    """Return the guesses with those that are unsure answered: by the proposal, or by the user.

    Raises:
        ConfigurationError: If there is no terminal to ask at and no --yes, or a required column has no proposal.
    """
    from recsys.onboarding.guesses import with_column
    from recsys.onboarding.shapes import how_to_complete

    same_file = samples["sales"] is samples["events"]  # then the ids of the sales are asked for once
    asked = [guess for key, guess in guesses.items() if not (same_file and key == "sales.sale_id")]
    unsure = [guess for guess in asked if not guess.is_sure]
    hopeless = [guess for guess in asked if guess.role.is_required and guess.column is None]
    if advice := next(filter(None, (how_to_complete(guess, samples) for guess in hopeless)), None):
        raise ConfigurationError(f"{advice}{_options(hopeless, samples)}")
    asks = not yes and _is_terminal()
    problems = [guess for guess in asked if guess in hopeless or (not yes and guess in unsure)]
    if problems and not (asks and all(guess.candidates for guess in hopeless)):
        take = "" if hopeless else "give --yes to take the proposals, or "
        raise ConfigurationError(
            f"{plural(len(problems), 'column')} cannot be told: {take}give:{_options(problems, samples)}"
        )
    answered = dict(guesses)
    for guess in problems:
        columns = samples[guess.role.table].columns
        console.print(f"{guess.role.key}, {guess.role.meaning}: may be {_candidates(guess, columns)}")
        while True:
            proposed = guess.column.name if guess.column else ""
            name = _prompt(f"Which column? ({guess.reason})", proposed)
            try:
                answered[guess.role.key] = with_column(guess, columns, name)
                break
            except ConfigurationError as error:
                console.print(str(error))
    if same_file:
        answered["sales.sale_id"] = replace(answered["events.sale_id"], role=guesses["sales.sale_id"].role)
    return answered


def _options(problems: Sequence["Guess"], samples: Mapping[str, "Sample"]) -> str:
    """Return a line for each column that cannot be told: its option, what it is, and which columns it may be."""
    return "".join(
        f"\n--column {guess.role.key}={guess.column.name if guess.column else 'NAME'}  ({guess.role.meaning}: "
        f"{guess.reason if guess.column else 'no column fits'}; may be "
        f"{_candidates(guess, samples[guess.role.table].columns)})"
        for guess in problems
    )


def _candidates(guess: "Guess", columns: Sequence["Column"]) -> str:
    """Return the columns that may be a role's, with the first values of those that have no names."""
    fitting = [column for column in columns if column.name in guess.candidates]
    each = [column.name if column.has_name else f"{column.name} ({_examples(column)})" for column in fitting]
    return ", ".join(each) or "none"


def _plan(name: str, samples: Mapping[str, "Sample"], guesses: Mapping[str, "Guess"], zone: str | None) -> "Plan":
    from recsys.onboarding.guesses import attribute_columns, photo_root
    from recsys.onboarding.plan import Plan

    names: dict[int, str] = {}
    for table in sorted(samples, key=lambda each: each == "sales"):  # if they are in one file, it is called raw_events
        names.setdefault(id(samples[table]), f"raw_{table}")
    attributes = {}
    for table, key in (("sales", "sale_id"), ("users", "user_id")):
        column = guesses[f"{table}.{key}"].column if table in samples else None
        of_table = [guess for guess in guesses.values() if samples[guess.role.table] is samples.get(table)]
        used = [guess.column.name for guess in of_table if guess.column]
        attributes[table] = attribute_columns(samples[table].columns, column, used) if column else {}
    uri = guesses["sale_images.image_uri"].column if "sale_images" in samples else None
    return Plan(
        name=name,
        folder=str(_FOLDERS / name),
        raw={names[id(sample)]: sample.raw for sample in samples.values()},
        files={table: names[id(sample)] for table, sample in samples.items()},
        guesses=guesses,
        sale_attributes=attributes["sales"],
        user_attributes=attributes["users"],
        zone=zone or "UTC",
        images_root=photo_root(uri.texts, samples["sale_images"].raw) if uri else None,
        notes=tuple(dict.fromkeys(f"{names[id(each)]}: {note}" for each in samples.values() for note in each.notes)),
    )


def _print_guesses(plan: "Plan") -> None:
    table = TextTable("column of ours", "yours", "why", "such as")
    for key, guess in plan.guesses.items():
        if guess.column:
            why = guess.reason if guess.is_sure else f"{guess.reason}: unsure"
            table.add_row(key, guess.column.name, why, _examples(guess.column))
    for of, attributes in (("sales", plan.sale_attributes), ("users", plan.user_attributes)):
        for name, column in attributes.items():
            table.add_row(
                f"{of}.attributes.{name}", column.name, plural(len(column.distinct), "value"), _examples(column)
            )
    console.print("", table, "")


def _examples(column: "Column") -> str:
    return ", ".join(each if len(each) <= 24 else f"{each[:23]}…" for each in list(dict.fromkeys(column.texts))[:3])


def _ask_zone(plan: "Plan", yes: bool) -> str:
    keys = [key for key, guess in plan.guesses.items() if key.endswith("_at") and guess.column]
    local = [key for key in keys if (column := plan.column(key)) and column.instants and not column.instants.has_zone]
    if not local:
        return "UTC"
    if yes or not _is_terminal():
        if not yes:
            raise ConfigurationError(
                f"the instants of {listed(local, 'and')} say no zone: give it by --timezone, such as UTC or "
                "Europe/Paris, or give --yes for UTC"
            )
        return "UTC"
    while True:
        try:
            return _zone(_prompt(f"The instants of {listed(local, 'and')} say no zone. Which one?", "UTC")) or "UTC"
        except ConfigurationError as error:
            console.print(str(error))


def _kind_of_rows(
    plan: "Plan", table: str, location: str, sample: "Sample", given: Mapping[str, "Kind"], yes: bool
) -> "Kind":
    """Return the kind of each row of a file of events that has no column of kinds."""
    from recsys.onboarding.guesses import kind_of_rows

    of = f"of {location}" if len(plan.event_tables) > 1 else "of the events"
    told = kind_of_rows(sample.columns, plan.column(f"{table}.quantity"), Path(location).name)
    kind, why = told or ("purchase", "nothing says otherwise")
    if found := given.get(location) or given.get(_EVERY_ROW):
        kind, why = found, "you say"
    elif not told:
        question = f"No column says what the user did. What is each row {of}: visit or purchase?"
        kind = _ask_kind(question, kind, f"--kind '{_EVERY_ROW}=purchase', or =visit", yes)
    if kind == "neither":
        raise ConfigurationError(f"each row {of} is neither, must be a visit or a purchase: give another file")
    console.print(f"Each row {of} counts as a {kind}, as {why}.")
    return kind


def _ask_kinds(kinds: Mapping[str, int], given: Mapping[str, "Kind"], yes: bool) -> dict[str, "Kind"]:
    """Return what each value of the column of kinds means."""
    from recsys.onboarding.columns import is_cart, kind_of

    meanings: dict[str, Kind] = {}
    for value, n in kinds.items():
        meaning = given.get(value) or kind_of(value)
        question = f"What is {visible(value)!r}, {plural(n, 'row')}: visit, purchase or neither?"
        meanings[value] = meaning or _ask_kind(question, "neither", f"--kind {value}=neither", yes)
    if kinds and "purchase" not in meanings.values():
        raise ConfigurationError(
            f"no kind of event is a purchase, needs one to learn from; there are {', '.join(map(repr, kinds))}: give, "
            f"such as, --kind {next(iter(kinds))}=purchase"
        )
    for meaning in _KINDS:
        if values := [
            f"{visible(value)} ({plural(kinds[value], 'row')})" for value in kinds if meanings[value] == meaning
        ]:
            told = {"visit": "Visits", "purchase": "Purchases", "neither": "Left out, as neither"}[meaning]
            console.print(f"{told}: {', '.join(values)}")
    if carts := [visible(value) for value in kinds if meanings[value] == "visit" and is_cart(value)]:
        console.print(f"A cart counts as a visit ({listed(carts, 'and')}): the user looked at the sale.")
    return meanings


def _ask_kind(question: str, proposal: "Kind", option: str, yes: bool) -> "Kind":
    if yes:
        return proposal
    if not _is_terminal():
        raise ConfigurationError(f"{question} Give it by {option}; or give --yes for {proposal}")
    while True:
        answer = _prompt(question, proposal)
        for kind in _KINDS:
            if answer == kind:
                return kind


def _write(plan: "Plan", path: Path, folder: Path) -> None:
    from recsys.onboarding import writing

    if plan.conditions:
        console.print(f"Left out of the events: {'; '.join(plan.conditions.values())}.")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in writing.sql_files(plan).items():
        (folder / file).write_text(text)
        console.print(f"Written: {folder / file}")
    path.write_text(writing.configuration(plan))
    console.print(f"Written: {path}", "")
    if plan.missing_windows:
        console.print(line((f"Note: {writing.note_on_windows(plan)}", "yellow")), "")


def _further_steps(plan: "Plan", samples: Mapping[str, "Sample"], path: Path, user: str) -> list[str]:
    from recsys.onboarding.guesses import photo_columns

    steps = []
    photos = photo_columns(samples["sales"].columns)
    if photos and "sale_images" not in samples:
        steps.append(f"Column {photos[0].name} holds photos: give its file as --images, too, to use them.")
    return [
        *steps,
        "",
        f"Look at {path} and conf/sources/{plan.name}/, correct what is wrong, and check with:",
        f"  recsys validate --conf {path}",
        "Then:",
        f"  recsys nightly --conf {path}",
        f"  recsys serve --conf {path}",
        f"  recsys top {shlex.quote(user)}   # in another terminal: the page of the last user",
    ]


def _is_terminal() -> bool:
    return sys.stdin.isatty() and console.is_terminal


def _prompt(question: str, proposal: str) -> str:
    return str(typer.prompt(visible(question), default=proposal)).strip()
