"""`recsys demo --experiment`: two weeks of an A/B test with the real jobs and the real service, in a few minutes."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from recommendations.v1 import recommendations_pb2 as pb

from cli.commands.options import console
from demo_shop.shoppers import Session, Shoppers, sessions
from recsys.config.settings import Settings
from recsys.console import progress_bar
from recsys.instants import DAY, HOUR, from_micros, to_micros
from recsys.wording import plural

if TYPE_CHECKING:
    from serving.client import Client
    from serving.process.server import Server

_SEED = 11
_BATCH = 500


class _Clock:
    """Returns the current instant of the simulation, in microseconds since 1970-01-01 UTC."""

    def __init__(self, now: int):
        self.now = now

    def __call__(self) -> int:
        return self.now


def simulate(shop: Settings, settings: Settings) -> int:
    """Run a night and simulate the users of each day; return the instant at which the simulation ends.

    Args:
        shop: The demo shop. Its events say when each user visits, its true tastes what each user likes.
        settings: The shop of the experiment: of the simulated days, it knows only the events recorded by its service.
    """
    from jobs.engine.nights import night
    from jobs.night.nightly import nightly
    from serving.client import Client

    assert settings.as_of is not None
    assert shop.as_of is not None
    start, end = to_micros(settings.as_of), to_micros(shop.as_of)
    _remove_earlier_simulation(settings.own_disk, shop.own_disk)
    later = _split_events(shop.own_disk, settings.own_disk, start)
    shoppers = Shoppers(shop.own_disk, _sale_ids(shop.own_disk), _SEED)
    clock = _Clock(start)
    sessions_by_day = [list(day) for _, day in groupby(sessions(later), key=lambda session: session.started_at // DAY)]
    for day, today in enumerate(sessions_by_day):
        nightly(night(settings, start + day * DAY, trains=not day))
        with _service(settings, clock) as server, Client(server.target, deadline=10.0) as client:
            label = f"Day {day + 1} of {len(sessions_by_day)}"
            pages, events = _simulate_day(today, client, clock, shoppers, label)
        date = f"{from_micros(start + day * DAY):%d %B}"
        console.print(f"{date}: {plural(pages, 'page')}, {plural(events, 'recorded event')}", "")
    return end


def _service(settings: Settings, clock: _Clock) -> "Server":
    from serving.process.server import start_server

    local = {"port": 0, "admin_port": None, "metrics_port": None, "workers": 1}
    return start_server(settings.serving.model_copy(update=local), settings.own_disk, clock)


def _simulate_day(
    today: Sequence[Session], client: "Client", clock: _Clock, shoppers: Shoppers, label: str
) -> tuple[int, int]:
    """Request a page per session and record the events on it, hour by hour; return the numbers of both."""
    recorded = 0
    with progress_bar(console) as progress:
        task = progress.add_task(label, total=24)
        for _, hour in groupby(today, key=lambda session: session.started_at // HOUR):
            events = [event for session in hour for event in _session_events(session, client, clock, shoppers)]
            clock.now = max([clock.now, *(event.occur_time.ToMicroseconds() for event in events)])
            for first in range(0, len(events), _BATCH):
                client.record(events[first : first + _BATCH])
            recorded += len(events)
            progress.advance(task)
    return len(today), recorded


def _session_events(session: Session, client: "Client", clock: _Clock, shoppers: Shoppers) -> Iterator[pb.Event]:
    clock.now = max(clock.now, session.started_at)
    page = client.top_sales(session.user_id, attributes=shoppers.attributes[session.user_id])
    prices = {sale.sale_id: sale.price for sale in page.sales}
    for look in shoppers.looks(session, list(prices)):
        yield _event(session, page, look.sale_id, look.occurred_at)
        if look.bought_at is not None:
            yield _event(session, page, look.sale_id, look.bought_at, prices[look.sale_id])


def _event(
    session: Session, page: pb.GetTopSalesResponse, sale_id: str, at: int, revenue: float | None = None
) -> pb.Event:
    kind = pb.EVENT_KIND_VISIT if revenue is None else pb.EVENT_KIND_PURCHASE
    event = pb.Event(
        user_id=session.user_id, sale_id=sale_id, kind=kind, attribution_token=page.request_id, revenue=revenue
    )
    event.occur_time.FromMicroseconds(at)
    return event


def _remove_earlier_simulation(folder: Path, shop: Path) -> None:
    """Remove an earlier simulation, and copy the tags of the shop's photos, since tagging takes a minute."""
    shutil.rmtree(folder, ignore_errors=True)
    for known in ("hashes", "tags"):
        if (shop / "photos" / known).exists():
            shutil.copytree(shop / "photos" / known, folder / "photos" / known)


def _split_events(shop: Path, folder: Path, start: int) -> pd.DataFrame:
    """Write the events before the simulation for its nights, and return the later ones."""
    events = pd.read_parquet(shop / "raw" / "events.parquet")
    known = events[events["happened_at"] < from_micros(start)]
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    known.to_parquet(folder / "raw" / "events.parquet", index=False, coerce_timestamps="us")
    return events[events["happened_at"] >= from_micros(start)]


def _sale_ids(shop: Path) -> list[str]:
    ids: Iterable[str] = pd.read_parquet(shop / "raw" / "sales.parquet", columns=["offer_id"])["offer_id"]
    return list(ids)
