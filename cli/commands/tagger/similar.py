"""`recsys tagger similar | duplicates`: photos like one, and photos that are the same."""

import json
from typing import Annotated

import typer

from cli.commands.options import DEMO, Conf, JsonFile, console
from recsys.config.settings import load_settings
from recsys.console import TextTable
from recsys.wording import plural

TaggerName = Annotated[
    str | None,
    typer.Option("--taxonomy", help="Use its base network; the first of images.taggers by default."),
]


def similar(
    photo: Annotated[str, typer.Argument(help="A photo of the shop, or any other photo.")],
    conf: Conf = DEMO,
    n: Annotated[int, typer.Option(min=1, max=1000, help="Number of photos.")] = 10,
    taxonomy: TaggerName = None,
    json_file: JsonFile = None,
) -> None:
    """Find the photos of the shop that are most similar to a photo.

    Similarity is the cosine of the base network's embeddings: 1 for the same photo, about 0.3 for two drawn at random.
    """
    from recsys.images.lab.similar_photos import photos_of, similar_photos

    settings = load_settings(conf)
    rows = similar_photos(photos_of(settings, taxonomy), photo, n)
    table = TextTable("photo", "cosine", labels=1)
    for row in rows:
        table.add_row(row["image_uri"], f"{row['cosine']:.3f}")
    console.print(table)
    if json_file:
        json_file.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")


def duplicates(
    conf: Conf = DEMO,
    cosine: Annotated[
        float | None,
        typer.Option(min=0.5, max=1, help="Least cosine of two photos that are the same; by the network by default."),
    ] = None,
    taxonomy: TaggerName = None,
    json_file: JsonFile = None,
) -> None:
    """List the photos of the shop that are near duplicates of one another, in groups.

    They are one photo that was stored again, or taken twice from the same place; labels and tests treat them as one.
    """
    from recsys.images.lab.neighbours import near_duplicates
    from recsys.images.lab.similar_photos import photos_of

    photos = photos_of(load_settings(conf), taxonomy).photos()
    groups = [photos.image_uris[each].tolist() for each in near_duplicates(photos.embeddings, cosine)]
    for number, group in enumerate(groups, 1):
        console.print(f"{number}.", *(f"   {uri}" for uri in group))
    n_photos = sum(map(len, groups))
    console.print(f"{n_photos:,} of {len(photos):,} photos have near duplicates, in {plural(len(groups), 'group')}.")
    if json_file:
        json_file.write_text(json.dumps(groups, indent=2, ensure_ascii=False) + "\n")
