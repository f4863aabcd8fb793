"""`recsys tagger distil`: a labelling service's answers become a tagger."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import DEMO, Conf, JsonFile, console
from cli.commands.tagger.versions import register
from recsys.config.settings import load_settings
from recsys.storage.local import write_whole


def distil(
    taxonomy: Annotated[str, typer.Argument(help="Name of a taxonomy with `kind: multi`.")],
    answers: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="CSV of image_uri, label (or labels, separated by |), confidence if known.",
        ),
    ],
    service: Annotated[str, typer.Option("--service", help="Who answered, such as the name of the service.")],
    terms: Annotated[
        str, typer.Option("--terms", help="Under which its answers may be learnt from, or where they are.")
    ],
    answered_at: Annotated[
        str | None,
        typer.Option("--answered-at", help="When it answered, such as 2026-03-01; by default the file's date."),
    ] = None,
    conf: Conf = DEMO,
    min_confidence: Annotated[
        float, typer.Option("--min-confidence", min=0, max=1, help="Labels of less confidence do not count.")
    ] = 0.0,
    rejected: Annotated[
        Path | None, typer.Option("--rejected", help="Write the rows that are left aside to this CSV.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the folds.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Train a multi-label tagger on a labelling service's answers; the service itself is never called.

    The answers are stored as labels of source api, except on photos that a person labelled. Then a head is fitted to
    all labels of the taxonomy, its thresholds are chosen on training folds, and it is measured on the test part.
    """
    from cli.tables.distillation import print_distillation
    from recsys.images.lab.answers import write_rejected
    from recsys.images.lab.distillation import Answered, distil_answers
    from recsys.images.lab.shop_photos import ShopPhotos
    from recsys.images.lab.taxonomy import load_taxonomy
    from recsys.instants import from_micros, parse_instant

    settings = load_settings(conf)
    shop = ShopPhotos.of(settings, load_taxonomy(Path(settings.images.taxonomies), taxonomy))
    at = (
        from_micros(parse_instant(answered_at)) if answered_at else datetime.fromtimestamp(answers.stat().st_mtime, UTC)
    )
    tagger, found, aside = distil_answers(shop, answers, Answered(service, terms, at), min_confidence, seed)
    print_distillation(found, aside, console)
    register(settings, tagger, settings.own_disk / "taggers" / taxonomy / tagger.version)
    if rejected:
        write_rejected(aside, rejected)
    if json_file:
        write_whole(
            json_file, json.dumps({"version": tagger.version, **tagger.card}, indent=2, ensure_ascii=False) + "\n"
        )
