"""`recsys tag | themes | attractiveness`: what photos show, and which photos attract visits."""

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
from recsys.wording import plural

themes = typer.Typer(
    invoke_without_command=True,
    help="Show the themes of the photos, each with its tags, example photos and shares.\n\n"
    "**recsys themes choose** compares numbers of themes; **recsys themes map** writes an HTML page of the photos.",
)


def tag(
    paths: Annotated[list[str], typer.Argument(help="Photos, folders of photos, or fsspec URLs.")],
    tagger: Annotated[str | None, typer.Option(help="One of the taggers above; efficientnet_lite0 by default.")] = None,
    weights: Annotated[str | None, typer.Option(help="Local file of the network's weights.")] = None,
    labels: Annotated[str | None, typer.Option(help="Local file of labels, one per line.")] = None,
    architecture: Annotated[str | None, typer.Option(help="Architecture of the network, for --tagger own.")] = None,
    conf: Annotated[Path | None, typer.Option("--conf", help="Use the named tagger of a configuration.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Tag photos: print the five most probable tags of each.

    Taggers: **efficientnet_lite0** (the 1,000 classes of ImageNet, offline), **efficientnet_lite1**,
    **efficientnet_lite2** (the same, with a package), **places365_resnet18**, **places365_resnet50** (365 scenes,
    downloaded once), **places365_squeezenet** (365 scenes, needs --weights),
    **own** (needs --weights, --labels and --architecture).
    """
    from cli.tables.results import print_tags
    from recsys.images.settings import ImageSettings
    from recsys.images.tagging.local import photos_below, tag_here

    images = load_settings(conf).images if conf else ImageSettings()
    chosen = {"name": tagger, "weights": weights, "labels": labels, "architecture": architecture}
    changes = {key: value for key, value in chosen.items() if value is not None}
    named = next((each for each in images.taggers if isinstance(each, TaggerSettings)), TaggerSettings())
    network, settings = tagger_settings(named, changes), images.model_copy(update={"root": ""})
    photos = photos_below(paths)
    rows = list(print_tags(tag_here(photos, settings, network, os.cpu_count() or 1), console, len(photos)))
    if json_file:
        json_file.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    if not any("tags" in row for row in rows):
        raise InputError(f"0 of {plural(len(rows), 'photo')} could be tagged: see the reasons above")


@themes.callback()
def show_themes(
    context: typer.Context,
    conf: Conf = DEMO,
    as_of: AsOf = None,
    json_file: JsonFile = None,
) -> None:
    """Print the themes of a night, after tagging its new photos."""
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
    numbers: Annotated[str, typer.Option(help="Numbers of themes to compare, in 1..1000.")] = "5,10,15,20,30,40,60",
) -> None:
    """Compare numbers of themes by reconstruction error, stability, and coherence of their tags."""
    from cli.tables.results import print_theme_counts
    from jobs.engine.nights import planned_night
    from jobs.photos.theme_reports import theme_counts

    counts = _parse_numbers(numbers, "--numbers")
    print_theme_counts(theme_counts(planned_night(load_settings(conf), *instants(as_of)), counts), console)


@themes.command("map")
def draw_map(
    conf: Conf = DEMO,
    as_of: AsOf = None,
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("photo_map.html"),
    photos: Annotated[int, typer.Option(min=1, max=5000, help="Number of photos to sample.")] = 1500,
    seed: Annotated[int, typer.Option(help="Seed of the sample and of the map.")] = 0,
) -> None:
    """Write an HTML page that maps the photos to two dimensions, similar ones close together."""
    from cli.tables.results import print_treatments
    from jobs.engine.nights import planned_night
    from jobs.photos.theme_reports import write_map

    shown, treatments = write_map(planned_night(load_settings(conf), *instants(as_of)), out, photos, seed)
    print_treatments(treatments, console)
    console.print(f"{plural(shown, 'photo')} in {out}: open it in a browser.")


def attractiveness(
    conf: Conf = DEMO,
    as_of: AsOf = None,
    days: Annotated[int, typer.Option(min=1, help="Number of days before the night whose visits are counted.")] = 365,
    by: Annotated[str | None, typer.Option(help="Print by month, country or category; totals by default.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of strongest, and of weakest, features to print.")] = 10,
    min_sales: Annotated[int, typer.Option(min=2, help="Leave out features shown by fewer sales.")] = 5,
    plot: Annotated[Path, typer.Option(help="File of the plot to write, .png or .svg.")] = Path("attractiveness.png"),
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write all rows of the table to this file, as JSON.")
    ] = None,
) -> None:
    """Measure which tags and themes attract visits: their share of the visits against their share of the open sales.

    +20 % means that sales whose photos show a feature get a share of the visits 20 % above their share of the sales
    that were open the day before. Rows are by tag and theme, month, country and category, with 95 % intervals.
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
    """Return the settings of a tagger, overridden by those of the command line."""
    try:
        return TaggerSettings.model_validate({**settings.model_dump(), **changes})
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ConfigurationError(f"--{wrong['loc'][0]} == {wrong['input']!r}: {wrong['msg']}") from error


def _parse_numbers(text: str, option: str) -> list[int]:
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(1 <= number <= 1000 for number in numbers):
        raise ConfigurationError(f"{option} == {text!r}, must be numbers in 1..1000 such as 10,20,30")
    return numbers
