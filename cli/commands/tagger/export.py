"""`recsys tagger export | embeddings export`: trained taggers and embeddings as files for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import DEMO, Conf, console
from recsys.config.settings import load_settings
from recsys.wording import plural

embeddings = typer.Typer(no_args_is_help=True, help="The embeddings of a shop's photos.")


def export(
    tagger: Annotated[
        str, typer.Argument(help="TAXONOMY for the champion, or TAXONOMY:VERSION; the newest where none was promoted.")
    ],
    onnx: Annotated[Path, typer.Option("--onnx", help="File to write.")],
    conf: Conf = DEMO,
) -> None:
    """Write a trained tagger as one ONNX file: network, head and calibration.

    Input: **photos**, uint8 (n, crop, crop, 3), RGB. Outputs: **probabilities** and **embeddings**. The file's metadata
    say how photos are resized and cropped, and what the outputs mean. Needs the extra **onnx**.
    """
    from recsys.images.lab.local_taggers import local_tagger
    from recsys.images.lab.onnx_export import export_onnx

    found = local_tagger(load_settings(conf).own_disk, tagger)
    export_onnx(found, onnx)
    console.print(f"{onnx} holds tagger {found.version}, {plural(len(found.head.labels), 'label')}.")


@embeddings.command("export")
def export_embeddings(
    taxonomy: Annotated[str, typer.Argument(help="Name of the taxonomy whose base network gives the embeddings.")],
    out: Annotated[Path, typer.Option(help="File to write: .parquet, or .npz of arrays.")],
    conf: Conf = DEMO,
) -> None:
    """Write the stored embeddings of a shop's photos, with their content hashes and addresses.

    No photo is read: photos that no night or command has seen yet are left out.
    """
    from recsys.images.lab.embeddings_file import write_embeddings
    from recsys.images.lab.shop_photos import ShopPhotos
    from recsys.images.lab.taxonomy import load_taxonomy

    settings = load_settings(conf)
    shop = ShopPhotos.of(settings, load_taxonomy(Path(settings.images.taxonomies), taxonomy))
    photos = shop.photos()
    write_embeddings(photos, shop.version, out)
    console.print(f"{out} holds the embeddings of {plural(len(photos), 'photo')} by {shop.version}.")
