"""`recsys tagger serve`: a service that tags uploaded photos."""

from typing import Annotated

import typer

from cli.commands.options import DEMO, Conf, console
from recsys.config.settings import load_settings


def serve(
    tagger: Annotated[str, typer.Option(help="TAXONOMY, TAXONOMY:VERSION or TAXONOMY:champion.")],
    conf: Conf = DEMO,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; that of serving.tagging by default.")
    ] = None,
) -> None:
    """Tag uploaded photos over HTTP until it is stopped.

    curl -F photo=@suite.jpg -F photo=@pool.jpg 'http://127.0.0.1:50060/v1/tags?n=3'

    It also answers Label Studio as a machine learning backend (/predict, /setup, /health). Callers, TLS and limits are
    those of **serving** and **serving.tagging** in the configuration.
    """
    from recsys.images.lab.local_taggers import local_tagger
    from serving.tagging.photo_tags import PhotoTagger
    from serving.tagging.server import serve_tagger

    settings = load_settings(conf)
    serving = settings.serving
    if port is not None:
        serving = serving.model_copy(update={"tagging": serving.tagging.model_copy(update={"port": port})})
    found = local_tagger(settings.own_disk, tagger)
    loaded = PhotoTagger.load(found, settings.images)

    def announce(address: str) -> None:
        console.print(f"Tagger {found.version} at {address}: POST photos to /v1/tags. Stop with Ctrl-C.")

    serve_tagger(loaded, serving, announce)
