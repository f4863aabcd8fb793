"""A small shop whose raw events are in a folder for each day, on which they were received."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from recsys.config.settings import Settings
from tests.helpers.small_shop import AS_OF, Row, SmallShop, at, event, raw_table, sale


class ShopByDays:
    """Sales in one file, events in a folder for each day."""

    def __init__(self, folder: Path) -> None:
        self.shop = SmallShop(folder).write([], [])
        self.shop.write_sql("events", "select * except (received) from {raw_events}")
        self.sales: list[Row] = []
        self.days: dict[int, list[Row]] = defaultdict(list)

    def settings(self, folder: str = "var", **changes: object) -> Settings:
        """Return the settings, with another folder of outputs for a second shop that has the same raw tables."""
        raw = self.shop.raw_settings()
        raw["source"]["raw"]["raw_events"] = {"path": str(self.shop.folder / "raw/events")}
        return Settings.model_validate({**raw, "folder": str(self.shop.folder / folder), **changes})

    def write_sales(self, sales: Iterable[Row]) -> None:
        """Write the sales, in place of those before."""
        self.sales = list(sales)
        pq.write_table(raw_table("sales", self.sales), self.shop.folder / "raw/sales.parquet")

    def write_day(self, day: int, rows: Iterable[Row]) -> None:
        """Write the events of a day, counted from that of AS_OF, in place of those before."""
        self.days[day] = list(rows)
        folder = self._folder(day)
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(raw_table("events", self.days[day]), folder / "part-0.parquet")

    def remove_day(self, day: int) -> None:
        """Remove the events of a day."""
        del self.days[day]
        (self._folder(day) / "part-0.parquet").unlink()

    def _folder(self, day: int) -> Path:
        return self.shop.folder / f"raw/events/received={AS_OF + timedelta(days=day):%Y-%m-%d}"


def random_sales(rng: np.random.Generator, n: int = 8) -> list[Row]:
    """Draw sales of the ten days before AS_OF and the five after; two are always open."""
    opens = [-400, -400, *rng.integers(-240, 120, n - 2).tolist()]
    return [
        sale(f"s{number}", opening, 400 if number < 2 else opening + 72, price=-1.0 if number == 5 else 20.0)
        for number, opening in enumerate(opens)
    ]


def random_day(rng: np.random.Generator, day: int, earlier: Iterable[Row], rows: int = 30) -> list[Row]:
    """Draw events received on a day: some late, some copies, some broken, unknown or of the future."""
    drawn = []
    for _ in range(rows):
        late = float(rng.choice([0, 0, 0, 0, 0, 24, 48]))
        hour = 24.0 * day + float(rng.uniform(0, 24)) - late
        hour += float(rng.choice([0] * 30 + [30]))  # not known yet
        user = rng.choice(["ann", "bob", "cid", "dan", "eve", "fay", "null", " gus ", ""])
        kind = rng.choice(["visit", "visit", "visit", "purchase", "refund"], p=[0.3, 0.3, 0.2, 0.17, 0.03])
        of_sale = f"s{int(rng.integers(0, 9))}"
        drawn.append(event(str(user), of_sale, hour, str(kind), recorded_at=at(hour + late), revenue=float(day)))
    earlier = list(earlier)
    for number in rng.integers(0, len(earlier), 3) if earlier else ():
        copied = dict(earlier[number])
        copied["revenue"] = float(rng.integers(0, 9))
        copied["recorded_at"] += timedelta(hours=float(rng.choice([-1, 0, 1])))
        drawn.append(copied)
    return drawn
