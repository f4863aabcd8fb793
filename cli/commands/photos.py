"""`recsys tag | themes | attractiveness`: what photos show, and what it is worth."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from cli.commands.options import DEMO, AsOf, Conf, JsonFile, console, instants
from recsys.config.settings import load_settings
from recsys.errors import ConfigurationError, InputError
from recsys.images.settings import TaggerSettings

themes = typer.Typer(
    invoke_without_command=True,
    help="Show what the photos have in common: each theme with its tags, photos and shares.\n\n"
    "**recsys themes choose** compares numbers of themes; **recsys themes map** writes a page of all photos.",
)


def tag(
    paths: Annotated[list[str], typer.Argument(help="Photos, folders of photos, or fsspec URLs.")],
    tagger: Annotated[
        str | None, typer.Option(help="efficientnet_lite0 by default, or another of the taggers below.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Local file of weights.")] = None,
    labels: Annotated[str | None, typer.Option(help="Local file of one label a line.")] = None,
    architecture: Annotated[str | None, typer.Option(help="Network of your own weights, for --tagger own.")] = None,
    conf: Annotated[Path | None, typer.Option("--conf", help="Take the tagger of a shop's configuration.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Say what photos show: the five best tags of each, with probabilities.

    Taggers: **efficientnet_lite0** (1,000 things of ImageNet, offline), **places365_resnet18**, **places365_resnet50**
    (365 scenes, fetched once), **places365_squeezenet** (365 scenes, needs --weights), **own** (needs --weights,
    --labels and --architecture).
    """
    from cli.tables.results import print_tags
    from recsys.images.settings import ImageSettings
    from recsys.images.tagging.local import photos_below, tag_here

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
    json_file: JsonFile = None,
) -> None:
    """Print the themes of a night, tagging first the photos that are new."""
    if context.invoked_subcommand:
        return
    from cli.tables.results import print_themes
    from jobs.engine.nights import planned_night
    from jobs.photos.theme_reports import theme_rows

    rows = theme_rows(planned_night(load_settings(conf), *instants(as_of)))
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
    from cli.tables.results import print_theme_counts
    from jobs.engine.nights import planned_night
    from jobs.photos.theme_reports import theme_counts

    counts = _numbers(numbers, "--numbers")
    print_theme_counts(theme_counts(planned_night(load_settings(conf), *instants(as_of)), counts), console)


@themes.command("map")
def draw_map(
    conf: Conf = DEMO,
    as_of: AsOf = None,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("photo_map.html"),
    photos: Annotated[int, typer.Option(min=1, max=5000, help="Show so many photos, drawn by the seed.")] = 1500,
    seed: Annotated[int, typer.Option(help="Seed of the draw and of the map.")] = 0,
) -> None:
    """Write a page that shows the photos in two dimensions, near each other where they look alike."""
    from cli.tables.results import print_treatments
    from jobs.engine.nights import planned_night
    from jobs.photos.theme_reports import write_map

    shown, treatments = write_map(planned_night(load_settings(conf), *instants(as_of)), out, photos, seed)
    print_treatments(treatments, console)
    console.print(f"{shown:,} photos in {out}: open it in a browser.")


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
    from cli.tables.photos import print_attractiveness
    from jobs.engine.nights import planned_night
    from jobs.photos.attractiveness import attractiveness_of_photos
    from recsys.images.attractiveness import AttractivenessSettings
    from recsys.images.attractiveness_plot import write_attractiveness_plot

    run = planned_night(load_settings(conf), *instants(as_of))
    table = attractiveness_of_photos(run, days, AttractivenessSettings(min_sales=min_sales))
    print_attractiveness(table, console, top, by)
    write_attractiveness_plot(table, plot, top)
    console.print(f"Plot in {plot}.")
    if json_file:
        json_file.write_text(table.to_json(orient="records", indent=2))


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
