"""A snapshot that is served as of the present, by counts that a test sets."""

from pathlib import Path

from recsys.config.serving import PageSettings
from recsys.instants import HOUR
from recsys.shop.live_counts import LiveCounts
from recsys.snapshot.format import Snapshot
from recsys.testing.shops import AS_OF
from serving.answers.top_sales import TopSales
from tests.helpers.asking import answered, shown
from tests.helpers.counted_events import live_counts
from tests.helpers.ranked_shop import RankedShop

NOW = AS_OF + 10 * HOUR


class LiveShop:
    """A snapshot that is served live by default, by the night by default, and without counts."""

    def __init__(self, night: RankedShop, root: Path, **written: int) -> None:
        self.counts = LiveCounts()
        settings = PageSettings(just_bought_hours=None)
        self.snapshot = Snapshot.open(root / night.write(root, **written))
        self.top_sales = TopSales.of(self.snapshot, settings=settings, counts=lambda: self.counts)
        self.by_snapshot = TopSales.of(self.snapshot, settings=settings, counts=lambda: self.counts, is_live=False)
        self.of_night = TopSales.of(self.snapshot, settings=settings)

    def buy(self, sale_id: str, users: int, at: int) -> None:
        self.counts = live_counts([(sale_id, True, at)] * users)

    def rank(self, sale_id: str, user_id: str, now: int = NOW, **asked: object) -> int:
        return shown(answered(self.top_sales, now, user_id, n=100, **asked)).index(sale_id)
