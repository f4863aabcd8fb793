"""`recsys tagger`: taggers for labels of a shop's own."""

import typer

from cli.commands.tagger import next as next_photos
from cli.commands.tagger import similar

tagger = typer.Typer(no_args_is_help=True, help="Make taggers for labels of your own, and use them.")
tagger.command("next")(next_photos.next_photos)
tagger.command()(next_photos.simulate)
tagger.command("similar")(similar.similar)
tagger.command()(similar.duplicates)
