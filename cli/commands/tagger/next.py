"""`recsys tagger next | simulate`: which photos to label next, and what that saves."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import DEMO, Conf, JsonFile, console
from recsys.config.settings import load_settings
from recsys.images.lab.taxonomy import load_taxonomy

TaxonomyName = Annotated[str, typer.Argument(help="Name of the taxonomy.")]


def next_photos(
    taxonomy: TaxonomyName,
    conf: Conf = DEMO,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Number of photos to choose.")] = 50,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write: .csv, or .json for Label Studio; next_TAXONOMY.csv by default."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order of equal scores.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Choose the photos that are worth labelling next, and write them to a file.

    A photo comes first if the labelled photos most similar to it disagree (**U**), many photos are similar to it
    (**I**), and none of them is labelled or chosen yet (**D**); each is the share of the photos with no higher value.
    Without labels, I and D choose. Replace each **?** of the CSV by a label, and import the file with **recsys tagger
    label import**. The last line tells whether further labels still change the predictions.
    """
    from cli.tables.label_queue import print_queue
    from recsys.images.lab.label_queue import label_queue, write_queue
    from recsys.images.lab.shop_photos import ShopPhotos

    settings = load_settings(conf)
    chosen = load_taxonomy(Path(settings.images.taxonomies), taxonomy)
    with console.status("Choosing photos"):
        queue = label_queue(ShopPhotos.of(settings, chosen), batch, seed)
    path = out or Path(f"next_{taxonomy}.csv")
    write_queue(queue.rows, chosen, path)
    print_queue(queue, console)
    told = f"Queue in {path}: replace each ? by a label, then 'recsys tagger label import {taxonomy} {path}'."
    console.print(told, soft_wrap=True)
    if json_file:
        json_file.write_text(json.dumps(queue.rows, indent=2, ensure_ascii=False) + "\n")


def simulate(
    taxonomy: TaxonomyName,
    conf: Conf = DEMO,
    batch: Annotated[int, typer.Option(min=1, help="Labels that are added at a time.")] = 10,
    labels: Annotated[int, typer.Option(min=2, help="Number of labels at which the curves end.")] = 600,
    seeds: Annotated[int, typer.Option(min=2, max=1000, help="Number of random pools of photos.")] = 10,
    plot: Annotated[Path, typer.Option(help="File of the plot to write, .png or .svg.")] = Path("simulation.png"),
    json_file: JsonFile = None,
) -> None:
    """Measure on the labels that exist how many **next** saves, against photos drawn at random.

    Both begin without labels. After each batch a logistic regression is fitted, and measured on the test part; the
    other photos, 80 % of them drawn anew for each seed, are the pool to choose from.
    """
    from cli.tables.label_queue import print_simulation, simulation_rows
    from recsys.console import progress_bar
    from recsys.images.lab.active_learning import STRATEGIES
    from recsys.images.lab.active_learning import simulate as simulated
    from recsys.images.lab.shop_photos import ShopPhotos
    from recsys.images.lab.simulation_plot import write_simulation_plot

    settings = load_settings(conf)
    shop = ShopPhotos.of(settings, load_taxonomy(Path(settings.images.taxonomies), taxonomy))
    with progress_bar(console) as bar:
        task = bar.add_task("Simulating", total=seeds * len(STRATEGIES))
        found = simulated(shop.dataset(), batch, labels, seeds, progress=lambda: bar.advance(task))
    print_simulation(found, console)
    write_simulation_plot(found, f"Labels of {taxonomy}", plot)
    console.print(f"Plot in {plot}.")
    if json_file:
        json_file.write_text(json.dumps(simulation_rows(found), indent=2) + "\n")
