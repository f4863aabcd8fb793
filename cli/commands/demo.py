"""`recsys demo`."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from cli.commands.options import DEMO, Conf, console
from recsys.config.serving import host_and_port
from recsys.config.settings import Settings, load_settings
from recsys.console import line, progress_bar
from recsys.errors import ConfigurationError
from recsys.storage.outputs import Outputs
from recsys.wording import plural


def demo(
    conf: Conf = DEMO,
    user: Annotated[str | None, typer.Option(help="User whose page is requested; an active one by default.")] = None,
    experiment: Annotated[
        bool, typer.Option("--experiment", help="Instead, simulate and analyse two weeks of an A/B test.")
    ] = False,
    morning: Annotated[
        bool,
        typer.Option(
            "--morning", help="Instead, show how a sale that opens in the morning climbs on the users' pages."
        ),
    ] = False,
) -> None:
    """Build the demo shop, run its night, and request one home page from the service."""
    if experiment:
        simulate_experiment(load_settings(conf))
        return
    if morning:
        from cli.commands.morning_demo import show_morning

        settings = load_settings(conf)
        build_demo_shop(settings)
        show_morning(settings)
        return
    from cli.tables.results import print_model
    from jobs.engine.nights import night
    from jobs.night.nightly import nightly as do_night
    from jobs.night.train_meta_model import read_model

    settings = load_settings(conf)
    build_demo_shop(settings)
    run = night(settings)
    do_night(run)
    if (model := read_model(run)[0]) is not None:
        console.print("", "Coefficients of the meta-model, largest first:")
        print_model(model, console)
    user = user or _active_user(run.outputs)
    _request_home_pages(settings, user)
    serve, top, measure = (
        "recsys serve",
        f"recsys top {quote(user)}",
        "recsys backtest --from 2026-02-22 --to 2026-02-28",
    )
    console.print(
        "",
        line("Next: ", (serve, "bold"), ", and in another terminal ", (top, "bold"), "; ", (measure, "bold"))
        + line(" measures how well it ranks."),
        line(("recsys console", "bold"), f" shows all of it in a browser, at http://{_console_address(settings)}."),
    )


def _console_address(settings: Settings) -> str:
    return host_and_port(settings.console.host, settings.console.port)


def simulate_experiment(shop: Settings, conf: Path = Path("conf/demo_experiment.yaml")) -> None:
    """Simulate two weeks of an experiment, with users who act by their true tastes, and analyse it."""
    from cli.commands.experiment_demo import simulate
    from cli.commands.experiments import judge

    settings = load_settings(conf)
    build_demo_shop(shop)
    end = simulate(shop, settings)
    judge(settings, "home", "personal-page", end)
    console.print(
        "",
        line(
            f"The tastes from which the purchases were drawn are in {shop.folder}/truth, which no job reads. Next: ",
            (f"recsys experiment simulate-aa personal-page --conf {conf}", "bold"),
            " analyses A/A tests on the same users.",
        ),
    )


def build_demo_shop(settings: Settings) -> None:
    """Build the shop that the configuration describes, unless it exists already."""
    from demo_shop.shop import build_shop
    from recsys.storage.local import write_whole

    if settings.demo_shop is None:
        raise ConfigurationError("the configuration has no 'demo_shop': use conf/demo.yaml, or run 'recsys nightly'")
    built = settings.own_disk / "demo_shop.json"
    wanted = settings.demo_shop.model_dump_json()
    if built.exists() and built.read_text() == wanted:
        console.print(f"Demo shop in {settings.folder}: unchanged")
        return
    built.unlink(missing_ok=True)
    with progress_bar(console) as progress:
        painting = progress.add_task("Painting photos", total=settings.demo_shop.photos)
        shop = build_shop(
            settings.demo_shop, settings.own_disk, lambda done, _: progress.update(painting, completed=done)
        )
    write_whole(built, wanted)
    console.print(
        f"Demo shop in {settings.folder}: {plural(shop.users, 'user')}, {plural(shop.sales, 'sale')} (median "
        f"{shop.median_open_sales:,.0f} open), {plural(shop.photos, 'photo')}, {plural(shop.visits, 'visit')}, "
        f"{plural(shop.purchases, 'purchase')}"
    )


def _active_user(outputs: Outputs) -> str:
    """Return the user at the 90th percentile of the number of events: with many events, the page is personal."""
    import pyarrow.compute as pc

    from recsys.tables.parts import read_arrow

    users = read_arrow(outputs / "user_histories", columns=["user_id", "sales"])
    lengths = pc.list_value_length(users["sales"]).to_numpy()
    ranked = sorted(zip(lengths.tolist(), users["user_id"].to_pylist(), strict=True))
    return ranked[len(ranked) * 9 // 10][1]


def _request_home_pages(settings: Settings, user: str) -> None:
    """Print the user's page, and the next one after visits of the last three sales on it."""
    from cli.tables.pages import print_top_sales
    from serving.client import Client
    from serving.process.server import start_server

    local = {"port": 0, "admin_port": None, "metrics_port": None, "workers": 1}
    with (
        start_server(settings.serving.model_copy(update=local), settings.own_disk) as server,
        Client(server.target, deadline=10.0) as client,
    ):
        console.print("", "The answer of the gRPC service:", "")
        page = client.top_sales(user)
        print_top_sales(user, page, console)
        visited = [sale.sale_id for sale in page.sales[-3:]]
        console.print("", f"After visits of {', '.join(visited)}, the user's next page is:", "")
        print_top_sales(user, client.top_sales(user, session=visited), console)
