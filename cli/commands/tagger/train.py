"""`recsys tagger train`: a version of a tagger from labelled photos."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import DEMO, Conf, JsonFile, console
from cli.commands.tagger.versions import register
from recsys.config.settings import load_settings


class Kind(StrEnum):
    """Kinds of heads."""

    linear = "linear"
    mlp = "mlp"
    best = "best"


def train(
    taxonomy: Annotated[str, typer.Argument(help="Name of the taxonomy, such as rooms.")],
    conf: Conf = DEMO,
    head: Annotated[
        Kind,
        typer.Option(
            help="linear: logistic regression; mlp: two fully connected layers; best: mlp only if it is clearly better."
        ),
    ] = Kind.best,
    fine_tune: Annotated[
        bool,
        typer.Option("--fine-tune", help="Also train the upper blocks of the base network; reads photos."),
    ] = False,
    freeze: Annotated[
        str, typer.Option(help="What fine-tuning leaves as it is: stem, or blocks:N, the stem and the first N blocks.")
    ] = "stem",
    target: Annotated[
        float, typer.Option(min=0.01, max=0.999, help="Accuracy to estimate the number of labels for.")
    ] = 0.9,
    seed: Annotated[int, typer.Option(min=0, help="Seed of folds and initial weights.")] = 0,
    report: Annotated[Path | None, typer.Option(help="HTML report to write; TAXONOMY_tagger.html by default.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Train a version of a tagger on the labelled photos of a taxonomy, and measure it.

    Photos are learnt by their stored embeddings, in seconds and without a GPU. 70 % of the photos are learnt, 10 %
    choose, 20 % are the test part, which no version ever learns; copies of a photo and photos of one sale stay
    together. Where the test part has fewer than 300 photos, figures come from five folds over all photos.

    The version is written to taggers/TAXONOMY/VERSION in the folder of the shop, and registered in MLflow: the first is
    the champion, which nights use; a later one is the challenger until **recsys tagger promote**.
    """
    from cli.tables.taggers import print_trained
    from jobs.lab.train_tagger import train_tagger
    from recsys.images.tagging.files import PhotoFiles
    from recsys.reports.tagger.writer import write_report

    settings = load_settings(conf)
    frozen = freeze if fine_tune else None
    trained = train_tagger(settings, taxonomy, datetime.now(UTC), head.value, target, seed, frozen)
    print_trained(trained, console)
    file = report or Path(f"{taxonomy}_tagger.html")
    write_report(trained.tagger, trained.held, trained.curve, file, PhotoFiles.of(settings.images, below_root=False))
    console.print(f"Report in {file}: open it in a browser.")
    register(settings, trained.tagger, trained.folder)
    if json_file:
        json_file.write_text(json.dumps(trained.tagger.card, indent=2, ensure_ascii=False) + "\n")
