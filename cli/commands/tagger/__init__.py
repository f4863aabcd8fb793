"""`recsys tagger`: taggers for labels of the shop's own."""

import typer

from cli.commands.tagger import review, serve

tagger = typer.Typer(
    no_args_is_help=True, help="Taggers for labels of your own: label photos, train, review, and use the result."
)
tagger.command()(review.review)
tagger.command()(review.agreement)
tagger.command()(serve.serve)
