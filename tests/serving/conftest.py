"""A small shop whose snapshots and clock the tests control."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings as hypothesis_settings
from recommendations.v1 import recommendations_pb2 as pb

from recsys.config.serving import ServingSettings
from recsys.instants import to_micros
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import Snapshot, SnapshotContents, SnapshotSale
from recsys.snapshot.users import Ranking
from recsys.snapshot.writer import write_snapshot
from serving.answers.top_sales import TopSales
from serving.client import top_sales
from serving.process.server import Server, start_server
from tests.helpers.ranked_shop import RankedShop
from tests.helpers.waiting import PATIENCE

hypothesis_settings.register_profile("recsys", deadline=None, max_examples=50)
hypothesis_settings.load_profile("recsys")

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
REASONS = ("own_visits", "collaborative", "popularity")
Entry = tuple[int, float, int] | tuple[int, float, int, int]
"""Position of a sale, score, position of the reason; then that of the photo, 0 where left out."""
KINDS = {"sales": pa.int32(), "scores": pa.float32(), "reasons": pa.uint8(), "covers": pa.uint8()}


class FakeClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.micros = to_micros(AS_OF)

    def __call__(self) -> int:
        return self.micros

    def set(self, hours: float, micros: int = 0) -> None:
        """Move to some hours, and microseconds, after `as_of`."""
        self.micros = to_micros(AS_OF + timedelta(hours=hours)) + micros


def sale(sale_id: str, opens: float = -1, closes: float = 24, **others: object) -> SnapshotSale:
    """A sale whose window is given in hours after `as_of`."""
    window = (AS_OF + timedelta(hours=opens), AS_OF + timedelta(hours=closes))
    return SnapshotSale(sale_id, f"Title of {sale_id}", *window, **others)


def batch(policies: Sequence[str], rankings: Mapping[str, Sequence[Entry]]) -> pa.RecordBatch:
    columns = {"user_id": pa.array(list(rankings), pa.string())}
    for policy in policies:
        for position, (name, kind) in enumerate(KINDS.items()):
            lists = [[(*entry, 0)[position] for entry in entries] for entries in rankings.values()]
            columns[f"{policy}_{name}"] = pa.array(lists, pa.list_(kind))
    return pa.record_batch(columns)


def shared(entries: Sequence[Entry]) -> Ranking:
    kinds = [kind.to_pandas_dtype() for kind in KINDS.values()]
    return Ranking(*(np.array([(*entry, 0)[i] for entry in entries], kind) for i, kind in enumerate(kinds)))


@dataclass
class Shop:
    """A shop's folder with its snapshots, and services that answer from it."""

    root: Path
    services: ExitStack
    clock: FakeClock = field(default_factory=FakeClock)
    as_of: datetime = AS_OF

    def write(
        self,
        sales: Sequence[SnapshotSale],
        rankings: Mapping[str, Sequence[Entry]],
        popularity: Sequence[Entry] | None = None,
        policies: Sequence[str] = ("meta",),
        fingerprint: str = "1a2b3c4d",
        versions: Mapping[str, str] | None = None,
        hours: float = 0,
        reasons: Sequence[str] = REASONS,
        segments: Mapping[str, Mapping[str, Sequence[Entry]]] | None = None,
        files: Mapping[str, Path] | None = None,
        **further: object,
    ) -> str:
        """Write a snapshot; by default the popularity ranking holds all sales, the last one first."""
        if popularity is None:
            popularity = [(position, 100.0 + position, 2) for position in reversed(range(len(sales)))]
        contents = SnapshotContents(
            as_of=AS_OF + timedelta(hours=hours),
            horizon_end=AS_OF + timedelta(hours=hours + 36),
            sales=sales,
            policies=policies,
            shared_rankings={"popularity": shared(popularity)},
            reasons=reasons,
            versions={"home_ranker": "3"} if versions is None else versions,
            fingerprint=fingerprint,
            segments={
                attribute: {value: shared(entries) for value, entries in rankings.items()}
                for attribute, rankings in (segments or {}).items()
            },
            files=files or {},
            **further,
        )
        return write_snapshot(self.root, contents, [batch(policies, rankings)])

    def publish(self, *arguments: object, **changes: object) -> str:
        """Write a snapshot and make it the current one."""
        name = self.write(*arguments, **changes)
        self.point_at(name)
        return name

    def load(self, *arguments: object, **changes: object) -> TopSales:
        """Write a snapshot, and return the state that answers from it."""
        return TopSales.of(Snapshot.open(self.root / self.write(*arguments, **changes)))

    def point_at(self, name: str) -> None:
        snapshot_store.publish(self.root, name, AS_OF)

    def serve(self, clock: Callable[[], int] | None = None, **settings: object) -> Server:
        """Start a service on a free port, with the shop's clock, that polls for snapshots every 10 ms."""
        defaults = {"port": 0, "admin_port": 0, "metrics_port": None, "workers": 1, "poll_seconds": 0.01, "threads": 4}
        settings = ServingSettings(**{**defaults, **settings})
        return self.services.enter_context(start_server(settings, self.root.parent, clock or self.clock))

    def ask(self, server: Server, user_id: str, n: int = 0, policy: str | None = None) -> pb.GetTopSalesResponse:
        return top_sales(server.target, user_id, n, policy, timeout=PATIENCE)


@pytest.fixture
def shop(tmp_path) -> Iterator[Shop]:
    with ExitStack() as services:
        yield Shop(tmp_path / "snapshots", services)


@pytest.fixture(scope="session")
def ranked_shop(tmp_path_factory) -> RankedShop:
    """The data of a nightly run with 22 users and 40 sales; it writes snapshots that can rank sessions."""
    return RankedShop.made(tmp_path_factory.mktemp("night") / "ranker")


@pytest.fixture
def night(shop, ranked_shop) -> RankedShop:
    """The same data, whose snapshot is the shop's current one."""
    shop.point_at(ranked_shop.write(shop.root))
    return ranked_shop


@pytest.fixture(scope="session")
def new_shop() -> Callable[[Path], Shop]:
    """Make a shop in a folder, without services."""
    return lambda root: Shop(root, ExitStack())


@pytest.fixture(scope="session")
def make_sale() -> Callable[..., SnapshotSale]:
    """Make a sale whose window is given in hours after `as_of`."""
    return sale


def publish_pages(shop: Shop) -> Shop:
    """Publish 14 sales: `s00`, …; ann's ranking holds the first 6, of which 2 are closed or not yet open."""
    windows = {1: (-5, 0), 3: (2, 24)}
    sales = [sale(f"s{position:02d}", *windows.get(position, (-1, 24)), price=9.5) for position in range(14)]
    ann = [(position, 0.9 - position / 10, position % 2) for position in range(6)]
    shop.publish(sales, {"ann": ann, "bob": ann[::-1]})
    return shop


@pytest.fixture
def published(shop) -> Shop:
    """A shop with 14 sales, see `publish_pages`."""
    return publish_pages(shop)


@pytest.fixture(scope="session")
def published_folder(tmp_path_factory) -> Path:
    """The folder of such a shop, which several tests may serve one after the other."""
    folder = tmp_path_factory.mktemp("published")
    publish_pages(Shop(folder / "snapshots", ExitStack()))
    return folder


@pytest.fixture
def six(shop) -> TopSales:
    """Sales a to f: ann's ranking is d, b (closed), a; popularity f, e, …, a; e is closed too."""
    windows = {"b": (-5, 0), "e": (5, 6)}
    sales = [sale(name, *windows.get(name, (-1, 24))) for name in "abcdef"]
    return shop.load(sales, {"ann": [(3, 0.5, 0), (1, 0.4, 0), (0, 0.25, 1)]})
