"""`recsys tagger`: taggers for labels of a shop's own."""

import typer

from cli.commands.tagger import train

tagger = typer.Typer(no_args_is_help=True, help="Make taggers for labels of your own, and use them.")
tagger.command()(train.train)
