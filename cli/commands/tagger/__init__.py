"""`recsys tagger`: taggers of a shop's own labels."""

import typer

from cli.commands.tagger.clean import clean
from cli.commands.tagger.distil import distil

tagger = typer.Typer(no_args_is_help=True, help="Make and keep taggers of a shop's own labels, from few labels.")
tagger.command()(clean)
tagger.command()(distil)
