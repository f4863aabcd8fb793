"""`recsys console`: the shop's nights, pages, sales and health in a browser."""

from typing import Annotated

import typer
from pydantic import ValidationError

from cli.commands.options import DEMO, Conf
from cli.commands.options import console as terminal
from recsys.config.console import ConsoleSettings
from recsys.config.settings import load_settings
from recsys.errors import ConfigurationError


def console(
    conf: Conf = DEMO,
    host: Annotated[str | None, typer.Option(help="Address to listen on; by default 'console.host'.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port, 0 for any free one; by default 'console.port'.")
    ] = None,
    service: Annotated[
        str | None, typer.Option(help="Address of the service, HOST:PORT; by default 'console.service'.")
    ] = None,
) -> None:
    """Open the console, pages in a browser, until it is stopped.

    **Tonight** shows each step of the nights, what they set aside and what was published; **Shop window** any user's
    page, two side by side, and why each sale is there; **Sales** takes a sale off all pages and puts it back;
    **Models**, **Experiments** and **Rules** compare, edit and put in force; **Health** says what to mend, **Changes**
    who changed what. Pages and sales need a running service (`recsys serve`).
    """
    from console.server import serve_console

    settings = load_settings(conf)
    given = {"host": host, "port": port, "service": service}
    changed = {name: value for name, value in given.items() if value is not None}
    try:
        checked = ConsoleSettings.model_validate({**settings.console.model_dump(), **changed})
    except ValidationError as error:
        rules = (each["msg"].removeprefix("Value error, ") for each in error.errors())
        raise ConfigurationError(f"console: {'; '.join(rules)}") from None
    serve_console(settings.model_copy(update={"console": checked}), _announce)


def _announce(url: str) -> None:
    terminal.print(f"The console is at {url}", soft_wrap=True)
    terminal.print("Stop it with Ctrl-C.")
