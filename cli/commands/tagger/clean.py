"""`recsys tagger clean`: labels that may be wrong."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import DEMO, Conf, JsonFile, console
from recsys.config.settings import load_settings
from recsys.storage.local import write_whole
from recsys.wording import plural


def clean(
    taxonomy: Annotated[str, typer.Argument(help="Name of the taxonomy.")],
    conf: Conf = DEMO,
    apply: Annotated[
        bool, typer.Option("--apply", help="Correct the labels on which head and neighbours name the same other label.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page of the photos, with suggestions and neighbours.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Number of labels printed.")] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the folds.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Find labels that are probably wrong, the most suspicious first.

    A label is compared with a head that never saw the photo (P) and with the votes of the ten nearest labelled photos
    (V). Nothing is changed without **--apply**, which adds corrections to the labels; they can be taken back. Photos
    of the test part are never corrected.
    """
    from cli.tables.cleaning import print_cleaning
    from recsys.images.lab import cleaning
    from recsys.images.lab.shop_photos import ShopPhotos
    from recsys.images.lab.taxonomy import load_taxonomy
    from recsys.images.tagging.files import PhotoFiles
    from recsys.reports.cleaning.writer import write_report

    settings = load_settings(conf)
    chosen = load_taxonomy(Path(settings.images.taxonomies), taxonomy)
    shop = ShopPhotos.of(settings, chosen)
    found = cleaning.clean(shop.dataset(), seed)
    print_cleaning(found, chosen, console, top)
    if html:
        write_report(found, chosen, html, PhotoFiles.of(settings.images))
        console.print(f"{html} shows the photos.")
    if json_file:
        write_whole(json_file, json.dumps(asdict(found), indent=2, ensure_ascii=False) + "\n")
    rows = cleaning.corrections(found, taxonomy, shop.labels.history(), datetime.now(UTC))
    if apply:
        shop.labels.add(rows)
        console.print(f"{plural(rows.num_rows, 'label')} corrected.")
    else:
        console.print(f"Nothing was changed; --apply would correct {plural(rows.num_rows, 'label')}.")
