"""Small shops for tests: the same sales and events as table rows, as a catalogue and as a block of histories."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.images.themes import theme_store
from recsys.images.themes.themes import THEME_MODEL, no_themes, sale_weights
from recsys.instants import DAY, parse_instant
from recsys.meta_model import Calibration, LogisticModel, MetaModel, Weights
from recsys.ranking.covers import Covers
from recsys.ranking.ranker import Ranker
from recsys.ranking.scorer import Scorer
from recsys.recommenders import RecommenderSettings, recommenders
from recsys.recommenders.towers import TowerWeights
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.gallery import Gallery
from recsys.shop.histories import Block, Histories, HistorySettings

AS_OF = parse_instant("2026-03-01")
HISTORY = HistorySettings()
RECOMMENDERS = RecommenderSettings()

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
_IMAGE_THEMES = pa.schema(
    [
        ("sale_id", pa.string()),
        ("position", pa.int32()),
        ("image_uri", pa.string()),
        ("weights", pa.list_(pa.float32())),
    ]
)
_SALE_THEMES = pa.schema([("sale_id", pa.string()), ("theme", pa.string()), ("weight", pa.float32())])


@dataclass(frozen=True)
class ShopData:
    """A shop as rows, as tables for SQL, and as arrays for the fast implementation."""

    sale_rows: list[dict]
    event_rows: list[dict]
    catalogue: Catalogue
    block: Block  # users in ascending order

    @property
    def sales(self) -> pa.Table:
        return pa.Table.from_pylist(self.sale_rows, schema=_SALES)

    @property
    def events(self) -> pa.Table:
        return pa.Table.from_pylist(self.event_rows, schema=_EVENTS)

    def horizon(self, hours: float = 36) -> Horizon:
        return self.catalogue.horizon(AS_OF, hours)

    def histories(self, settings: HistorySettings = HISTORY) -> Histories:
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


def with_photos(shop: ShopData, n_themes: int = 5) -> ShopData:
    """Return a shop with photos: those of a sale depend only on its id, and one sale in six has none.

    A photo shows some of the themes; one photo in ten could not be tagged.
    """
    photos = [_random_photos(sale_id, n_themes) for sale_id in shop.catalogue.sale_ids]
    first = np.cumsum([0, *map(len, photos)])
    weights = np.concatenate([*photos, np.zeros((0, n_themes), np.float32)])
    owners = np.repeat(np.arange(len(photos)), np.diff(first))
    of_sales = sale_weights(weights, owners, np.isin(np.arange(len(owners)), first), len(photos), 2.0)
    uris = [f"{shop.catalogue.sale_ids[owner]}-{number}.jpg" for number, owner in enumerate(owners)]
    names = [f"theme {number}" for number in range(n_themes)]
    return replace(shop, catalogue=replace(shop.catalogue, gallery=Gallery(first, uris, names, weights, of_sales)))


SALES_OF_TWO_COUNTRIES = [
    sale("a", -9, -2, country="FR"),  # closed: its visits show the users' taste
    sale("b", country="FR", category="spa"),
    sale("c", country="IT"),
    sale("d", 0.5, 3, country="FR"),  # opens tomorrow
    sale("e"),
    sale("f", 1.5, 3, category="spa", country="IT"),  # opens after the horizon: unknown to the night
]

CALIBRATION = Calibration([-60.0, -4.0, -1.0, 60.0], [-90.0, -3.5, -2.0, 20.0])
"""A calibration that is neither the identity nor a straight line, for all models of tests."""


def fitted_ranker(
    shop: ShopData, settings: RecommenderSettings = RECOMMENDERS, towers: TowerWeights | None = None
) -> Ranker:
    """Fit every recommender to all users of a shop; the meta-model has random coefficients, some negative."""
    horizon, known = shop.horizon(), shop.histories()
    everything = recommenders(settings, shop.catalogue, towers)
    models = [each.fit(each.count(known, horizon), horizon) for each in everything]
    means, scales, coefficients, repeat = np.random.default_rng(0).normal(size=(4, len(everything)))
    means *= 0.2  # with larger means, they would determine every reason
    names = [each.name for each in everything]
    of_both = list(coefficients), -3.0, Weights(list(repeat), -1.0)
    meta_model = LogisticModel(names, list(means), list(np.abs(scales) + 0.5), *of_both, CALIBRATION)
    covers = Covers(shop.catalogue.gallery, horizon) if shop.catalogue.gallery else None
    return Ranker(Scorer(horizon, everything, models), meta_model, covers)


def log_odds_one_by_one(scorer: Scorer, model: MetaModel, known: Histories) -> np.ndarray:
    """Return the log-odds of each sale of the horizon for one user, summed in plain Python."""
    bought = {int(sale) for sale, is_purchase in zip(known.sales, known.purchases, strict=True) if is_purchase}
    features = scorer.features(known)[:, 0]
    found = []
    for column, sale_row in enumerate(scorer.horizon.sales):
        repeat = model.repeat if int(sale_row) in bought else None
        weights, total = (repeat.coefficients, repeat.intercept) if repeat else (model.coefficients, model.intercept)
        for feature, mean, scale, weight in zip(features, model.means, model.scales, weights, strict=True):
            total += weight * (feature[column] - mean) / scale
        found.append(total)
    return np.array(found, np.float32)


def history_of(shop: ShopData, row: int) -> Histories:
    """Return the history of one user as of AS_OF."""
    return shop.block.take(np.array([row])).as_of(AS_OF, HISTORY)


def _random_photos(sale_id: str, n_themes: int) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(sale_id.encode()))
    n_photos = 0 if rng.random() < 1 / 6 else int(rng.integers(1, 12))
    shown = rng.random((n_photos, n_themes)) < 0.4
    tagged = rng.random((n_photos, 1)) < 0.9
    return (rng.gamma(2, 1, (n_photos, n_themes)) * shown * tagged).astype(np.float32)


def write_photos(folder: Path, catalogue: Catalogue) -> None:
    """Write a catalogue's gallery in the format of `build_themes` to a run's folder."""
    gallery = catalogue.gallery
    assert gallery is not None
    names = gallery.theme_names
    theme_store.save(replace(no_themes(), ids=list(range(1, len(names) + 1)), names=names), folder / THEME_MODEL)
    photos = [
        {
            "sale_id": sale_id,
            "position": number,
            "image_uri": gallery.uris[row],
            "weights": gallery.photo_themes[row].tolist() if gallery.photo_themes[row].any() else None,
        }
        for sale, sale_id in enumerate(catalogue.sale_ids)
        for number, row in enumerate(range(gallery.first[sale], gallery.first[sale + 1]))
    ]
    themes = [
        {"sale_id": catalogue.sale_ids[sale], "theme": names[theme], "weight": gallery.sale_themes[sale, theme]}
        for sale, theme in zip(*np.nonzero(gallery.sale_themes), strict=True)
    ]
    for name, rows, schema in (("image_themes", photos, _IMAGE_THEMES), ("sale_themes", themes, _SALE_THEMES)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / name / "part.parquet")


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
        **({"category": rng.choice([None, "", "spa", "ski"])} if rng.random() < 0.5 else {}),
    )


def _random_event(rng: np.random.Generator, sale_ids: list[str], n_users: int) -> dict:
    user = f"u{min(int(rng.exponential(n_users / 3)), n_users - 1):02d}"
    chosen = sale_ids[len(sale_ids) - 1 - min(int(rng.exponential(len(sale_ids) / 3)), len(sale_ids) - 1)]
    day = float(rng.choice([-1, -3, -15, -60, 1])) * rng.random() + float(rng.choice([0, 0, 0, -40]))
    if rng.random() < 0.1:
        day = float(round(day))  # at as_of itself, or at the same instant as another event
    recorded = day + (rng.exponential(2) if rng.random() < 0.2 else 0)
    return visit(user, str(chosen), day, recorded, "purchase" if rng.random() < 0.2 else "visit")
