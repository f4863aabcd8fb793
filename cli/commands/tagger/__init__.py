"""`recsys tagger`: taggers of a shop's own labels."""

import typer

from cli.commands.tagger.export import embeddings, export

tagger = typer.Typer(no_args_is_help=True, help="Make and keep taggers of a shop's own labels, from few labels.")
tagger.command()(export)
tagger.add_typer(embeddings, name="embeddings")
