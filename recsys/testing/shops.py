"""Small shops for tests: the same sales and events as table rows, as a catalogue and as a block of histories."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys.instants import DAY, parse_instant
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.histories import Block, Histories, HistorySettings

AS_OF = parse_instant("2026-03-01")
HISTORY = HistorySettings()
_INSTANT = pa.timestamp("us", tz="UTC")
_SALES = pa.schema(
    [
        ("sale_id", pa.string()),
        ("opens_at", _INSTANT),
        ("closes_at", _INSTANT),
        ("title", pa.string()),
        ("description", pa.string()),
        ("price", pa.float64()),
        ("attributes", pa.map_(pa.string(), pa.string())),
    ]
)
_EVENTS = pa.schema(
    [
        ("user_id", pa.string()),
        ("sale_id", pa.string()),
        ("kind", pa.string()),
        ("occurred_at", _INSTANT),
        ("recorded_at", _INSTANT),
        ("revenue", pa.float64()),
    ]
)
_HISTORIES = pa.schema(
    [
        ("user_id", pa.string()),
        ("sales", pa.list_(pa.int32())),
        ("purchases", pa.list_(pa.bool_())),
        ("occurred_at", pa.list_(pa.int64())),
        ("recorded_at", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True)
class ShopData:
    """A shop as rows, as tables for SQL, and as arrays for the fast implementation."""

    sale_rows: list[dict]
    event_rows: list[dict]
    catalogue: Catalogue
    block: Block  # users in ascending order

    @property
    def sales(self) -> pa.Table:
        """Table `sales`."""
        return pa.Table.from_pylist(self.sale_rows, schema=_SALES)

    @property
    def events(self) -> pa.Table:
        """Table `events`."""
        return pa.Table.from_pylist(self.event_rows, schema=_EVENTS)

    def horizon(self, hours: float = 36) -> Horizon:
        """Return the sales open within some hours from AS_OF."""
        return self.catalogue.horizon(AS_OF, hours)

    def histories(self, settings: HistorySettings = HISTORY) -> Histories:
        """Return what is known of all users as of AS_OF."""
        return self.block.as_of(AS_OF, settings)


def instant(days: float) -> int:
    """Return the instant some days after AS_OF, microseconds."""
    return AS_OF + round(days * DAY)


def sale(
    sale_id: str,
    opens: float = -1,
    closes: float = 1,
    *,
    title: str = "",
    description: str | None = None,
    price: float | None = None,
    **attributes: str | None,
) -> dict:
    """Return a row of `sales`; instants are in days after AS_OF."""
    return {
        "sale_id": sale_id,
        "opens_at": instant(opens),
        "closes_at": instant(closes),
        "title": title,
        "description": description,
        "price": price,
        "attributes": list(attributes.items()) or None,
    }


def visit(user_id: str, sale_id: str, day: float, recorded: float | None = None, kind: str = "visit") -> dict:
    """Return a row of `events`; instants are in days after AS_OF."""
    return {
        "user_id": user_id,
        "sale_id": sale_id,
        "kind": kind,
        "occurred_at": instant(day),
        "recorded_at": instant(day if recorded is None else recorded),
        "revenue": None,
    }


def purchase(user_id: str, sale_id: str, day: float, recorded: float | None = None) -> dict:
    """Return a row of `events`; instants are in days after AS_OF."""
    return visit(user_id, sale_id, day, recorded, "purchase")


def make_shop(sales: list[dict], events: list[dict], users: Sequence[str] = ()) -> ShopData:
    """Return a shop with the given rows; `users` are in its block even without an event."""
    catalogue = Catalogue.from_table(pa.Table.from_pylist(sales, schema=_SALES))
    histories: dict[str, list[tuple[int, int, bool, int]]] = {user: [] for user in users}
    for row in events:
        event = (row["occurred_at"], catalogue.position[row["sale_id"]], row["kind"] == "purchase", row["recorded_at"])
        histories.setdefault(row["user_id"], []).append(event)
    rows = [
        {
            "user_id": user,
            "sales": [event[1] for event in sorted(history)],
            "purchases": [event[2] for event in sorted(history)],
            "occurred_at": [event[0] for event in sorted(history)],
            "recorded_at": [event[3] for event in sorted(history)],
        }
        for user, history in sorted(histories.items())
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=_HISTORIES)
    return ShopData(sales, events, catalogue, Block.from_batch(batch, len(catalogue)))


def random_shop(seed: int, n_users: int = 23, n_sales: int = 14, n_events: int = 400) -> ShopData:
    """Return a random shop with many edge cases.

    Some events are duplicates, recorded late, too old or after AS_OF; some sales have no price or attributes; the last
    user has no event. The most active users are first and the most popular sales last, so that no pattern is symmetric.
    """
    rng = np.random.default_rng(seed)
    sale_ids = rng.permutation([f"s{number:02d}" for number in range(n_sales)])
    sales = [_random_sale(rng, sale_id) for sale_id in sale_ids]
    sales[0] |= {"opens_at": instant(-2), "closes_at": instant(0.5)}  # at least one sale is open
    events = [_random_event(rng, sorted(sale_ids), n_users - 1) for _ in range(n_events)]
    return make_shop(sales, events, users=[f"u{number:02d}" for number in range(n_users)])


def _random_sale(rng: np.random.Generator, sale_id: str) -> dict:
    opens = rng.uniform(-20, 2)
    words = ["beach", "château", "Chateau", "night", "of", "ski", "spa", "x"]
    countries = ["FR", "IT", "ES"]
    return sale(
        str(sale_id),
        opens,
        opens + rng.uniform(0.5, 12),
        title=" ".join(rng.choice(words, rng.integers(0, 5))),
        description=None if rng.random() < 0.3 else " ".join(rng.choice(words, 3)),
        price=None if rng.random() < 0.2 else float(rng.lognormal(5, 1)),
        **({"country": str(rng.choice(countries))} if rng.random() < 0.8 else {}),
        **({"category": rng.choice(np.array([None, "", "spa", "ski"], object))} if rng.random() < 0.5 else {}),
    )


def _random_event(rng: np.random.Generator, sale_ids: list[str], n_users: int) -> dict:
    user = f"u{min(int(rng.exponential(n_users / 3)), n_users - 1):02d}"
    chosen = sale_ids[len(sale_ids) - 1 - min(int(rng.exponential(len(sale_ids) / 3)), len(sale_ids) - 1)]
    day = float(rng.choice([-1, -3, -15, -60, 1])) * rng.random() + float(rng.choice([0, 0, 0, -40]))
    if rng.random() < 0.1:
        day = float(round(day))  # at as_of itself, or at the same instant as another event
    recorded = day + (rng.exponential(2) if rng.random() < 0.2 else 0)
    return visit(user, str(chosen), day, recorded, "purchase" if rng.random() < 0.2 else "visit")
