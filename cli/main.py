"""The `recsys` command, and the table of its commands."""

import os
import sys

import typer

from cli.commands import console, demo, experiments, init, models, night, photos, service, users
from cli.commands.tagger import tagger
from recsys.console import print_error, show_progress
from recsys.errors import RecsysError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Recommends flash sales: Spark jobs by night, a gRPC service by day.\n\n"
    "Start with **recsys demo**; then write the configuration of your own shop by **recsys init**, and "
    "give it as **--conf**.",
)


@app.callback()
def recsys(context: typer.Context) -> None:
    """Print the log messages of jobs on stderr; the service has a log of its own."""
    if context.invoked_subcommand != "serve":
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # errors give gRPC's reason in one line
        show_progress()


for command in (
    demo.demo,
    init.init,
    night.validate,
    night.nightly,
    night.backfill,
    night.refresh,
    night.backtest,
    night.pack,
    service.serve,
    console.console,
    service.top,
    service.similar,
    service.exposures,
    service.doctor,
    photos.tag,
    photos.attractiveness,
):
    app.command()(command)
for name, group in (
    ("snapshots", service.snapshots),
    ("sales", service.sales),
    ("users", users.users),
    ("rules", service.rules),
    ("themes", photos.themes),
    ("experiment", experiments.experiment),
    ("models", models.models),
    ("tagger", tagger),
):
    app.add_typer(group, name=name)


def main() -> None:
    """Run the command; an error raised on purpose, or by the disk, is printed in one line, with exit status 1."""
    try:
        app(standalone_mode=True)
    except (RecsysError, OSError) as error:
        print_error(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
