"""The `recsys` command: the one place that may start either the jobs or the service."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.progress import Progress
from rich.text import Text

from recsys.config import Settings, load_settings
from recsys.errors import ConfigurationError, EmptyInputError, InputError, RecsysError, RejectedRowsError
from recsys.images.settings import TaggerSettings
from recsys.instants import parse_instant, to_micros
from recsys.report import wide_console

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Recommends flash sales: Spark jobs by night, a gRPC service by day.\n\n"
    "Start with **recsys demo**; then point **--conf** at a configuration of your own shop.",
)
snapshots = typer.Typer(no_args_is_help=True, help="Look at the published snapshots, or go back to an earlier one.")
app.add_typer(snapshots, name="snapshots")
themes = typer.Typer(
    invoke_without_command=True,
    help="Show what the photos have in common: each theme with its tags, photos and shares.\n\n"
    "**recsys themes choose** compares numbers of themes; **recsys themes map** writes a page of all photos.",
)
app.add_typer(themes, name="themes")

Conf = Annotated[Path, typer.Option("--conf", help="Configuration file of the shop.")]
AsOf = Annotated[str | None, typer.Option("--as-of", help="Instant of the night: a date or 2026-03-01T02:30:00Z.")]
DEMO = Path("conf/demo.yaml")
console = wide_console()


@app.command()
def demo(
    conf: Conf = DEMO,
    user: Annotated[str | None, typer.Option(help="Whose home page to ask for; an active user by default.")] = None,
) -> None:
    """Build the demo shop, run the night over it, and ask the service for one home page."""
    from jobs.nightly import night
    from jobs.nightly import nightly as do_night
    from jobs.train_meta_model import read_model
    from recsys.report import print_model

    settings = load_settings(conf)
    _build_demo_shop(settings)
    run = night(settings)
    do_night(run)
    console.print("\nWhat the meta-model learned, strongest first:")
    print_model(read_model(run)[0], console)
    user = user or _active_user(run.folder)
    _ask_for_home_page(settings, user)
    console.print(
        f"\nNext: [bold]recsys serve[/bold], beside it [bold]recsys top {user}[/bold]; and "
        "[bold]recsys backtest --from 2026-02-22 --to 2026-02-28[/bold] measures how good it is."
    )


def _build_demo_shop(settings: Settings) -> None:
    from recsys.demo_shop.shop import build_shop

    if settings.demo_shop is None:
        raise ConfigurationError("the configuration has no 'demo_shop': use conf/demo.yaml, or 'recsys nightly'")
    built = Path(settings.folder) / "demo_shop.json"
    wanted = settings.demo_shop.model_dump_json()
    if built.exists() and built.read_text() == wanted:
        console.print(f"Demo shop in {settings.folder}: unchanged")
        return
    built.unlink(missing_ok=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        drawing = progress.add_task("Painting photos", total=settings.demo_shop.photos)
        shop = build_shop(
            settings.demo_shop, Path(settings.folder), lambda done, _: progress.update(drawing, completed=done)
        )
    built.write_text(wanted)
    console.print(
        f"Demo shop in {settings.folder}: {shop.users:,} users, {shop.sales:,} sales "
        f"({shop.median_open_sales:.0f} open at once), {shop.photos:,} photos, {shop.visits:,} visits, "
        f"{shop.purchases:,} purchases"
    )


def _active_user(folder: Path) -> str:
    """Return a user with more events than nine in ten others: his page shows most."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    users = pq.read_table(folder / "user_histories", columns=["user_id", "sales"])
    lengths = pc.list_value_length(users["sales"]).to_numpy()
    ranked = sorted(zip(lengths.tolist(), users["user_id"].to_pylist(), strict=True))
    return ranked[len(ranked) * 9 // 10][1]


def _ask_for_home_page(settings: Settings, user: str) -> None:
    from serving.client import top_sales
    from serving.console import print_top_sales
    from serving.server import start_server

    here = {"port": 0, "admin_port": None, "metrics_port": None, "workers": 1}
    with start_server(settings.serving.model_copy(update=here), Path(settings.folder)) as server:
        console.print("\nThe answer of the gRPC service:\n")
        print_top_sales(user, top_sales(server.target, user), console)


@app.command()
def validate(conf: Conf = DEMO, as_of: AsOf = None) -> None:
    """Check the source tables and print every rule with PASS or FAIL; rows that break one are set aside."""
    from jobs.nightly import night
    from jobs.validate_tables import REFUSED_RULE_COUNTS, RULE_COUNTS, VALIDATE_TABLES
    from recsys.report import print_rules

    run = night(load_settings(conf), *_instants(as_of))
    try:
        run.do((VALIDATE_TABLES,))
    except (EmptyInputError, RejectedRowsError):
        print_rules(run.folder / REFUSED_RULE_COUNTS, console)
        raise
    print_rules(run.folder / RULE_COUNTS, console)


@app.command()
def nightly(
    conf: Conf = DEMO,
    as_of: AsOf = None,
    train: Annotated[bool, typer.Option(help="Train the meta-model, or take the champion.")] = True,
) -> None:
    """Run the night: validate, fit, train, score every user, publish a snapshot.

    Steps whose inputs, settings and code are unchanged are not done again: after a crash, run the same command.
    """
    from jobs.nightly import night
    from jobs.nightly import nightly as do_night

    name = do_night(night(load_settings(conf), *_instants(as_of), train=train), train)
    console.print(f"Published snapshot {name}. Next: recsys serve --conf {conf}")


@app.command()
def backtest(
    start: Annotated[str, typer.Option("--from", help="First day, such as 2026-02-01.")],
    end: Annotated[str, typer.Option("--to", help="Last day, included.")],
    conf: Conf = DEMO,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result into this file too.")] = None,
    days_sampled: Annotated[int | None, typer.Option(help="Look at so many days of the window.")] = None,
    users_sampled: Annotated[float, typer.Option(min=1e-6, max=1, help="Look at this share of the users.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of both samples and of the intervals.")] = 0,
) -> None:
    """Rank each past day by what was known at its midnight; measure by what users bought on it."""
    from jobs.backtest import backtest as measure
    from jobs.backtest import window
    from recsys.report import print_backtest

    first, last = (parse_instant(day) for day in (start, end))
    result = measure(window(load_settings(conf), first, last, days_sampled, seed), users_sampled, seed)
    print_backtest(result, console)
    if json_file:
        json_file.write_text(json.dumps(result, indent=2) + "\n")


@app.command()
def serve(conf: Conf = DEMO) -> None:
    """Answer GetTopSales over gRPC from the published snapshot, until stopped."""
    from serving.workers import serve as run_service

    settings = load_settings(conf)
    run_service(settings.serving, Path(settings.folder))


@app.command()
def top(
    user: Annotated[str, typer.Argument(help="Whose home page; '' for an anonymous visit.")],
    n: Annotated[int, typer.Option(help="How many sales.")] = 10,
    policy: Annotated[str | None, typer.Option(help="What orders them; the service's default otherwise.")] = None,
    target: Annotated[str, typer.Option(help="Where the service listens, HOST:PORT.")] = "127.0.0.1:50051",
) -> None:
    """Ask the service for a user's home page and print it."""
    from serving.client import top_sales
    from serving.console import print_top_sales

    print_top_sales(user, top_sales(target, user, n, policy), console)


@app.command()
def tag(
    paths: Annotated[list[str], typer.Argument(help="Photos, folders of photos, or fsspec URLs.")],
    tagger: Annotated[
        str | None, typer.Option(help="efficientnet_lite0 by default, or another of the taggers below.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Local file of weights.")] = None,
    labels: Annotated[str | None, typer.Option(help="Local file of one label a line.")] = None,
    architecture: Annotated[str | None, typer.Option(help="Network of your own weights, for --tagger own.")] = None,
    conf: Annotated[Path | None, typer.Option("--conf", help="Take the tagger of a shop's configuration.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result into this file too.")] = None,
) -> None:
    """Say what photos show: the five best tags of each, with probabilities.

    Taggers: **efficientnet_lite0** (1,000 things of ImageNet, offline), **places365_resnet18**, **places365_resnet50**
    (365 scenes, fetched once), **places365_squeezenet** (365 scenes, needs --weights), **own** (needs --weights,
    --labels and --architecture).
    """
    from recsys.images.local import photos_below, tag_here
    from recsys.images.settings import ImageSettings
    from recsys.report import print_tags

    images = load_settings(conf).images if conf else ImageSettings()
    chosen = {"name": tagger, "weights": weights, "labels": labels, "architecture": architecture}
    changes = {key: value for key, value in chosen.items() if value is not None}
    settings = images.model_copy(update={"root": "", "tagger": tagger_settings(images.tagger, changes)})
    photos = photos_below(paths)
    rows = list(print_tags(tag_here(photos, settings, os.cpu_count() or 1), console, len(photos)))
    if json_file:
        json_file.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    if not any("tags" in row for row in rows):
        raise InputError(f"0 of {len(rows):,} photos could be tagged: see the reasons above")


@themes.callback()
def show_themes(
    context: typer.Context,
    conf: Conf = DEMO,
    as_of: AsOf = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result into this file too.")] = None,
) -> None:
    """Print the themes of a night, tagging first the photos that are new."""
    if context.invoked_subcommand:
        return
    from jobs.nightly import night
    from jobs.theme_reports import theme_rows
    from recsys.report import print_themes

    rows = theme_rows(night(load_settings(conf), *_instants(as_of)))
    print_themes(rows, console)
    if json_file:
        json_file.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")


@themes.command()
def choose(
    conf: Conf = DEMO,
    as_of: AsOf = None,
    numbers: Annotated[str, typer.Option(help="Numbers of themes to compare.")] = "5,10,15,20,30,40,60",
) -> None:
    """Compare numbers of themes: what each explains, whether half the photos give the same, how well it reads."""
    from jobs.nightly import night
    from jobs.theme_reports import theme_counts
    from recsys.report import print_theme_counts

    counts = _numbers(numbers, "--numbers")
    print_theme_counts(theme_counts(night(load_settings(conf), *_instants(as_of)), counts), console)


@themes.command("map")
def draw_map(
    conf: Conf = DEMO,
    as_of: AsOf = None,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("photo_map.html"),
    photos: Annotated[int, typer.Option(min=1, max=5000, help="Show so many photos, drawn by the seed.")] = 1500,
    seed: Annotated[int, typer.Option(help="Seed of the draw and of the map.")] = 0,
) -> None:
    """Write a page that shows the photos in two dimensions, near each other where they look alike."""
    from jobs.nightly import night
    from jobs.theme_reports import write_map
    from recsys.report import print_treatments

    shown, treatments = write_map(night(load_settings(conf), *_instants(as_of)), out, photos, seed)
    print_treatments(treatments, console)
    console.print(f"{shown:,} photos in {out}: open it in a browser.")


@app.command()
def attractiveness(
    conf: Conf = DEMO,
    as_of: AsOf = None,
    days: Annotated[int, typer.Option(min=1, help="Look at the visits of so many days before the night.")] = 365,
    by: Annotated[str | None, typer.Option(help="Print by month, country or category; totals otherwise.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Features shown at either end.")] = 10,
    min_sales: Annotated[int, typer.Option(min=2, help="Say nothing where fewer sales show a feature.")] = 5,
    plot: Annotated[Path, typer.Option(help="The plot to write, .png or .svg.")] = Path("attractiveness.png"),
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every row of the table into this file.")
    ] = None,
) -> None:
    """Say what photos that show something are worth: their share of the visits against their share of the offer.

    At +20 %, sales whose photos show it get 20 % more of the visits than their share of the sales that were on offer
    the day before. For each tag and theme, by month, country and category, with 95 % intervals and counts.
    """
    from jobs.attractiveness import attractiveness_of_photos
    from jobs.nightly import night
    from recsys.attractiveness import AttractivenessSettings, print_attractiveness
    from recsys.images.attractiveness_plot import write_attractiveness_plot

    run = night(load_settings(conf), *_instants(as_of))
    table = attractiveness_of_photos(run, days, AttractivenessSettings(min_sales=min_sales))
    print_attractiveness(table, console, top, by)
    write_attractiveness_plot(table, plot, top)
    console.print(f"Plot in {plot}.")
    if json_file:
        json_file.write_text(table.to_json(orient="records", indent=2))


@snapshots.command("list")
def list_snapshots(conf: Conf = DEMO) -> None:
    """List the snapshots, newest first, and say which one is served."""
    from recsys.report import print_snapshots

    print_snapshots(load_settings(conf).snapshots_folder, console)


@snapshots.command()
def rollback(conf: Conf = DEMO) -> None:
    """Serve the snapshot that was published before the current one."""
    from recsys import snapshot_store

    name = snapshot_store.rollback(load_settings(conf).snapshots_folder, datetime.now(UTC))
    console.print(f"Now serving {name}; running services take it up by themselves.")


def main() -> None:
    """Run the command; an error raised on purpose, or by the disk, is one line and exit status 1."""
    try:
        app(standalone_mode=True)
    except (RecsysError, OSError) as error:
        wide_console(stderr=True).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(1)


def tagger_settings(settings: TaggerSettings, changes: dict[str, str]) -> TaggerSettings:
    """Return the settings of a tagger with those of the command line."""
    try:
        return TaggerSettings.model_validate({**settings.model_dump(), **changes})
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ConfigurationError(f"--{wrong['loc'][0]} == {wrong['input']!r}: {wrong['msg']}") from error


def _numbers(text: str, option: str) -> list[int]:
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(1 <= number <= 1000 for number in numbers):
        raise ConfigurationError(f"{option} == {text!r}, must be numbers in 1..1000 such as 10,20,30")
    return numbers


def _instants(as_of: str | None) -> tuple[int | None, int]:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return parse_instant(as_of) if as_of else None, to_micros(midnight)


if __name__ == "__main__":
    main()
