"""A large generated shop in the columns of our tables: tastes by category, skewed activity, sales of three days."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.instants import DAY, HOUR, from_micros, to_micros

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
LIFE_DAYS = 3
CATEGORIES, REGIONS = 13, 50
CHUNK = 100_000
PURCHASE_SHARE = 0.04


def write_shop(
    folder: Path,
    users: int,
    events: int,
    open_sales: int = 300,
    days: int = 90,
    seed: int = 0,
    by_day: bool = False,
) -> None:
    """Write sales.parquet and a folder of events; most of a user's events are in a few categories.

    Args:
        folder: Made if absent.
        users: Number of users, each with at least one event.
        events: Approximate number of events.
        open_sales: Number of sales open at the same time.
        days: Days of events before `AS_OF`; the last sales open two days after it.
        seed: Of all draws.
        by_day: Whether events are in a folder for each day, `day=2026-02-28`.
    """
    rng = np.random.default_rng(seed)
    opens, category = _write_sales(folder, open_sales, days, rng)
    by_category = [np.flatnonzero(category == each) for each in range(CATEGORIES)]
    (folder / "events").mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, users, CHUNK)):
        table = _events(start, min(CHUNK, users - start), events / users, opens, by_category, rng)
        if by_day:
            _write_by_day(table, folder / "events", f"part-{number:03}.parquet")
        else:
            pq.write_table(table, folder / "events" / f"part-{number:03}.parquet")


def _write_by_day(events: pa.Table, folder: Path, name: str) -> None:
    day = events["occurred_at"].cast(pa.int64()).to_numpy() // DAY
    order = np.argsort(day, kind="stable")
    starts = np.flatnonzero(np.diff(day[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        of_day = folder / f"day={from_micros(int(day[rows[0]]) * DAY):%Y-%m-%d}"
        of_day.mkdir(exist_ok=True)
        pq.write_table(events.take(pa.array(rows)), of_day / name)


def _write_sales(folder: Path, open_sales: int, days: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    first_day, opening_days = -days - LIFE_DAYS, days + LIFE_DAYS + 2
    n_sales = open_sales * opening_days // LIFE_DAYS
    day = first_day + np.sort(rng.integers(0, opening_days, n_sales))
    opens = to_micros(AS_OF) + day * DAY + rng.integers(6, 9, n_sales) * HOUR
    category, region = rng.integers(0, CATEGORIES, n_sales), rng.integers(0, REGIONS, n_sales)
    words = np.array([f"word{number}" for number in range(2000)])
    texts = [" ".join(row) for row in words[rng.zipf(1.3, (n_sales, 12)) % len(words)]]
    attributes = [
        [("category", f"c{c}"), ("region", f"r{r}"), ("country", f"l{r % 12}")]
        for c, r in zip(category, region, strict=True)
    ]
    instant = pa.timestamp("us", tz="UTC")
    table = pa.table(
        {
            "sale_id": [f"s-{number:06}" for number in range(n_sales)],
            "opens_at": pa.array(opens, instant),
            "closes_at": pa.array(opens + LIFE_DAYS * DAY, instant),
            "title": [text.split()[0] for text in texts],
            "description": texts,
            "price": np.exp(rng.normal(5, 0.6, n_sales)),
            "attributes": pa.array(attributes, pa.map_(pa.string(), pa.string())),
        }
    )
    pq.write_table(table, folder / "sales.parquet")
    return opens, category


def _events(
    first_user: int, users: int, mean: float, opens: np.ndarray, by_category: list[np.ndarray], rng: np.random.Generator
) -> pa.Table:
    lengths = 1 + rng.poisson((mean - 1) * rng.gamma(0.7, 1 / 0.7, users))
    user = np.repeat(np.arange(users), lengths)
    favourite = rng.integers(0, CATEGORIES, (users, 3))
    liked = favourite[user, rng.integers(0, 3, len(user))]
    category = np.where(rng.random(len(user)) < 0.7, liked, rng.integers(0, CATEGORIES, len(user)))
    sale = np.empty(len(user), np.int64)
    for each, sales in enumerate(by_category):
        chosen = np.flatnonzero(category == each)
        sale[chosen] = sales[rng.integers(0, len(sales), len(chosen))]
    occurred_at = opens[sale] + (rng.random(len(user)) * LIFE_DAYS * DAY).astype(np.int64)
    as_of = to_micros(AS_OF)
    known = np.flatnonzero((occurred_at < as_of) & (occurred_at >= as_of - 90 * DAY))
    known = known[np.lexsort((occurred_at[known], user[known]))]
    return pa.table(
        {
            "user_id": np.char.add("u-", np.char.zfill((first_user + user[known]).astype(str), 9)),
            "sale_id": np.char.add("s-", np.char.zfill(sale[known].astype(str), 6)),
            "kind": np.where(rng.random(len(known)) < PURCHASE_SHARE, "purchase", "visit"),
            "occurred_at": pa.array(occurred_at[known], pa.timestamp("us", tz="UTC")),
        }
    )
