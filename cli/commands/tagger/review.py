"""`recsys tagger review | agreement`: photos whose label is unsure, and how two people agree."""

import getpass
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import DEMO, Conf, console
from recsys.config.settings import load_settings
from recsys.errors import BusyError, ConfigurationError

Taxonomy = Annotated[str, typer.Argument(help="Name of the taxonomy; TAXONOMY:VERSION to review another version.")]


def review(
    taxonomy: Taxonomy,
    conf: Conf = DEMO,
    by: Annotated[
        list[str], typer.Option("--by", help="Who reviews, repeatable; the user of the operating system by default.")
    ] = [],  # noqa: B006
    share: Annotated[
        float | None, typer.Option(help="Share of the photos to review, in 0..1; by default those that are unsure.")
    ] = None,
    double: Annotated[bool, typer.Option("--double", help="Let two people label each photo.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free one.")] = 0,
) -> None:
    """Review the photos whose label is unsure, on a page in a browser.

    The page groups photos by suggested label: **1** to **9** label the chosen photo, **Enter** confirms the rest of its
    group, **0** is none of these, **s** skips, **u** takes back. Each key is stored at once; stop with Ctrl-C and go on
    later. With --by ann --by bob each has an address of their own, and they see different photos.
    """
    from console.server import serve_review
    from recsys.images.lab.local_taggers import local_tagger
    from recsys.images.lab.review import Review, by_usefulness
    from recsys.images.lab.shop_photos import ShopPhotos
    from recsys.images.tagging.files import PhotoFiles
    from recsys.storage.local import held
    from recsys.wording import plural

    settings = load_settings(conf)
    tagger = local_tagger(settings.own_disk, taxonomy)
    shop = ShopPhotos.of(settings, tagger.taxonomy)
    reviewers = list(dict.fromkeys(name.strip() for name in by)) or [getpass.getuser()]
    if not all(name and name.isprintable() and len(name) <= 100 for name in reviewers):
        raise ConfigurationError(f"--by == {by}, must be names of 1 to 100 printable characters")
    with ExitStack() as stack:
        try:
            stack.enter_context(held(settings.own_disk / "reviews" / tagger.taxonomy.name, wait=False))
        except BusyError:
            raise BusyError(
                f"a review of {tagger.taxonomy.name!r} runs already: open its address, or stop it and start one for "
                "all with --by NAME --by NAME"
            ) from None
        photos, labels = shop.photos(), shop.labels
        order = by_usefulness(photos, shop.dataset()) if labels.current().num_rows else None
        found = Review(photos, tagger, labels, share, order, double)
        console.print(
            f"{plural(found.open_photos, 'photo')} to review; tagger {tagger.version} is sure of "
            f"{plural(sum(found.sure_labels().values()), 'other')}."
        )

        def announce(addresses: dict[str, str]) -> None:
            for name, address in addresses.items():
                console.print(f"{name} opens {address}", soft_wrap=True)
            console.print("Each decision is stored at once. Stop with Ctrl-C.")

        serve_review(found, PhotoFiles.of(settings.images), reviewers, host, port, announce)


def agreement(
    taxonomy: Annotated[str, typer.Argument(help="Name of the taxonomy.")],
    conf: Conf = DEMO,
) -> None:
    """Show how people agree on photos that several labelled: Cohen's kappa with its 95 % interval, by label too."""
    from cli.tables.agreement import print_agreement
    from recsys.images.lab.agreement import agreements
    from recsys.images.lab.review import words_by_person
    from recsys.images.lab.shop_photos import ShopPhotos
    from recsys.images.lab.taxonomy import load_taxonomy

    settings = load_settings(conf)
    found = load_taxonomy(Path(settings.images.taxonomies), taxonomy)
    words = words_by_person(ShopPhotos.of(settings, found).labels.history())
    print_agreement(agreements(words, found.ids), console)
