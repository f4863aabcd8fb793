"""`recsys users`: what the shop's folder holds of a single user."""

from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import DEMO, Conf, console
from cli.commands.service import push_if_shared
from recsys.config.settings import load_settings
from recsys.console import line
from recsys.errors import ConfigurationError
from recsys.ids import trimmed
from recsys.wording import plural

users = typer.Typer(no_args_is_help=True, help="Erase a user.")

_KEPT = (
    "the shop's raw tables: they are the shop's own, erase the user there too; every later night leaves the user out "
    "(erased_users.txt, which holds a digest of the id)",
    "reports of backtests, which show the pages of ten users: remove the folder where the user is one of them",
    "sums over all users: popularity, similar sales, versions of the model, results of experiments and backtests",
    "the service's text log and backups, where the configuration makes them hold ids",
)


@users.command()
def erase(user: Annotated[str, typer.Argument(help="The id of the user.")], conf: Conf = DEMO) -> None:
    """Erase a user from snapshots, sessions, logs and tables, and say what was erased and what is kept.

    Can be repeated, also where it was killed. A running service loads the new snapshot by itself.
    """
    from recsys.erasure.logs_and_tables import (
        add_to_erased,
        erase_from_log,
        erase_from_shipped_log,
        erase_from_tables,
    )
    from recsys.erasure.snapshots import erase_from_snapshots
    from recsys.logs.records import EXPOSURES, RECORDED_EVENTS
    from serving.clocks import system_clock
    from serving.stores.sessions import SessionFiles

    user = trimmed(user)  # as service and night do
    if not user:
        raise ConfigurationError("user == '', must be the id of a user: anonymous pages hold no id")
    settings = load_settings(conf)
    folder, disk = settings.place, settings.own_disk
    folder.mkdir(parents=True, exist_ok=True)
    is_new = add_to_erased(folder, user)
    erased, kept, found = [], list(_KEPT), 0
    if (sessions := disk / "serving" / "sessions").is_dir():
        files = SessionFiles(sessions, system_clock)
        found += (events := files.remove(user))
        erased.append(f"running sessions: {plural(events, 'event')}")
        files.close()
    for name in (EXPOSURES, RECORDED_EVENTS):
        lines, being_written = erase_from_log(disk / name, user)
        if not isinstance(folder, Path):
            lines += erase_from_shipped_log(folder / name, user)
        found += lines
        erased.append(f"log files of {name}: {plural(lines, 'line')}")
        kept += [f"{path}: a service is writing it; erase again when it is finished" for path in being_written]
    tables = erase_from_tables(folder, user)
    erased += [f"table {table}: {plural(rows, 'row')}" for table, rows in tables.items()]
    snapshots = erase_from_snapshots(settings.publisher, user)
    erased += [f"snapshot {name}, written without the user" for name in snapshots]
    if snapshots:
        push_if_shared(settings)
    if settings.serving.store.kind == "redis":
        kept.append(
            "Redis: the running session, for at most a day, what counts of the last two days, for two days, and former "
            "snapshots until they are replaced"
        )
    for title, lines_of_title in (("Erased", erased), ("Kept", kept)):
        console.print(line((f"{title}:", "bold")))
        for each in lines_of_title:
            console.print(f"  {each}")
    if is_new and not (found or tables or snapshots):
        console.print(f"Note: nothing here held user {user!r}: check the id.", style="yellow")
