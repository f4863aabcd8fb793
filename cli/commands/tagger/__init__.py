"""`recsys tagger`: taggers of a shop's own labels."""

import typer

from cli.commands.tagger import clean, distil, export, review, serve, similar, train, versions
from cli.commands.tagger import next as next_photos
from cli.commands.tagger.labels import label

tagger = typer.Typer(no_args_is_help=True, help="Make and keep taggers of a shop's own labels, from few labels.")
tagger.add_typer(label, name="label")
tagger.command("next")(next_photos.next_photos)
tagger.command()(next_photos.simulate)
tagger.command()(train.train)
tagger.command()(clean.clean)
tagger.command()(distil.distil)
tagger.command()(versions.versions)
tagger.command()(versions.drift)
tagger.command()(versions.promote)
tagger.command()(versions.rollback)
tagger.command()(review.review)
tagger.command()(review.agreement)
tagger.command()(serve.serve)
tagger.command()(export.export)
tagger.add_typer(export.embeddings, name="embeddings")
tagger.command()(similar.similar)
tagger.command()(similar.duplicates)
