"""`recsys demo`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from cli.commands.options import DEMO, Conf, console
from recsys.config.settings import Settings, load_settings
from recsys.errors import ConfigurationError


def demo(
    conf: Conf = DEMO,
    user: Annotated[str | None, typer.Option(help="Whose home page to ask for; an active user by default.")] = None,
    experiment: Annotated[
        bool, typer.Option("--experiment", help="Instead: two weeks of an A/B test, simulated and judged.")
    ] = False,
) -> None:
    """Build the demo shop, run the night over it, and ask the service for one home page."""
    if experiment:
        simulate_experiment(load_settings(conf))
        return
    from cli.tables.results import print_model
    from jobs.engine.nights import night
    from jobs.night.nightly import nightly as do_night
    from jobs.night.train_meta_model import read_model

    settings = load_settings(conf)
    build_demo_shop(settings)
    run = night(settings)
    do_night(run)
    console.print("\nWhat the meta-model learned, strongest first:")
    print_model(read_model(run)[0], console)
    user = user or _active_user(run.folder)
    _ask_for_home_pages(settings, user)
    console.print(
        f"\nNext: [bold]recsys serve[/bold], beside it [bold]recsys top {user}[/bold]; and "
        "[bold]recsys backtest --from 2026-02-22 --to 2026-02-28[/bold] measures how good it is."
    )


def simulate_experiment(shop: Settings, conf: Path = Path("conf/demo_experiment.yaml")) -> None:
    """Let users live through two weeks of an experiment, by their true tastes, and judge it."""
    from cli.commands.experiment_demo import simulate
    from cli.commands.experiments import judge

    settings = load_settings(conf)
    build_demo_shop(shop)
    end = simulate(shop, settings)
    judge(settings, "home", "personal-page", end)
    console.print(
        f"\nThe tastes that drew the purchases are in {shop.folder}/truth, which no job reads. Next: "
        f"[bold]recsys experiment simulate-aa personal-page --conf {conf}[/bold] shows what the same users give when "
        "nothing is compared."
    )


def build_demo_shop(settings: Settings) -> None:
    """Build the shop that the configuration describes, unless it is there."""
    from demo_shop.shop import build_shop
    from recsys.storage.local import write_whole

    if settings.demo_shop is None:
        raise ConfigurationError("the configuration has no 'demo_shop': use conf/demo.yaml, or 'recsys nightly'")
    built = Path(settings.folder) / "demo_shop.json"
    wanted = settings.demo_shop.model_dump_json()
    if built.exists() and built.read_text() == wanted:
        console.print(f"Demo shop in {settings.folder}: unchanged")
        return
    built.unlink(missing_ok=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        drawing = progress.add_task("Painting photos", total=settings.demo_shop.photos)
        shop = build_shop(
            settings.demo_shop, Path(settings.folder), lambda done, _: progress.update(drawing, completed=done)
        )
    write_whole(built, wanted)
    console.print(
        f"Demo shop in {settings.folder}: {shop.users:,} users, {shop.sales:,} sales "
        f"({shop.median_open_sales:.0f} open at once), {shop.photos:,} photos, {shop.visits:,} visits, "
        f"{shop.purchases:,} purchases"
    )


def _active_user(folder: Path) -> str:
    """Return a user with more events than nine in ten others: his page shows most."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    users = pq.read_table(folder / "user_histories", columns=["user_id", "sales"])
    lengths = pc.list_value_length(users["sales"]).to_numpy()
    ranked = sorted(zip(lengths.tolist(), users["user_id"].to_pylist(), strict=True))
    return ranked[len(ranked) * 9 // 10][1]


def _ask_for_home_pages(settings: Settings, user: str) -> None:
    """Ask for the user's page, and for his next one after a look at the last three sales of it."""
    from cli.tables.pages import print_top_sales
    from serving.client import Client
    from serving.process.server import start_server

    here = {"port": 0, "admin_port": None, "metrics_port": None, "workers": 1}
    with (
        start_server(settings.serving.model_copy(update=here), Path(settings.folder)) as server,
        Client(server.target, deadline=10.0) as client,
    ):
        console.print("\nThe answer of the gRPC service:\n")
        page = client.top_sales(user)
        print_top_sales(user, page, console)
        looked_at = [sale.sale_id for sale in page.sales[-3:]]
        console.print(f"\nHe looks at {', '.join(looked_at)}; his next page, a moment later:\n")
        print_top_sales(user, client.top_sales(user, session=looked_at), console)
