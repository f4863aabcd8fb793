"""Detection of leaks: data not known at an instant is altered; a feature whose value changes has used it."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f

from recsys.errors import LeakError
from recsys.instants import DAY, SECOND, from_micros
from recsys.pipeline.shop import Shop
from recsys.ranking.moments import quarters
from recsys.shop.histories import Block
from recsys.tables.night import USER_HISTORIES
from recsys.tables.parts import read_arrow
from recsys.wording import plural

TOLERANCE = 1e-5
"""Largest difference that is not a leak, relative for values above 1: float32 sums depend on the order of summation,
which other users' events change. `popularity` changed by at most 2e-7 for this reason; `taste_text`, a sum over many
words, from -9.18539 to -9.18542."""
WORLDS = ("changed", "deleted", "shuffled")
"""The ways in which data that is not known yet is altered."""
BY_DAY = "by day"
"""The world in which what is not known at a moment of a day is changed: features are compared as of that moment."""
PART_ROWS = 1 << 20
"""Mean number of rows that are shuffled together: the later events of a large shop do not fit into one task."""
_RECENT = 7 * DAY
"""Maximum age of an event that is changed to have occurred before as_of: recent events have the largest weights."""


class Tables(NamedTuple):
    """The tables that features are computed from: validated tables and the tags of photos."""

    sales: DataFrame
    events: DataFrame
    image_tags: DataFrame
    rejected_images: DataFrame


class Span(NamedTuple):
    """An instant and the periods after it, microseconds UTC."""

    as_of: int
    until: int
    """End of the horizon."""
    end: int
    """End of the events."""


class _Layout(NamedTuple):
    """The key of a table, and groups of columns: those of a group are shuffled together."""

    key: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]


_LAYOUTS = {
    "sales": _Layout(("sale_id",), (("opens_at", "closes_at"), ("title", "description"), ("price",), ("attributes",))),
    "events": _Layout(
        ("user_id", "sale_id", "kind", "occurred_at"),
        (("user_id",), ("sale_id",), ("kind",), ("occurred_at", "recorded_at")),
    ),
    "image_tags": _Layout(("sale_id", "position"), (("image_hash", "tags", "probabilities", "weights"),)),
    "rejected_images": _Layout(("sale_id", "position"), (("reason", "detail"),)),
}


def is_known(as_of: int) -> Column:
    """Return the condition that an event occurred and was recorded before an instant."""
    return (f.unix_micros("occurred_at") < as_of) & (f.unix_micros("recorded_at") < as_of)


def unknown_sales(tables: Tables, span: Span) -> DataFrame:
    """Return the `sale_id` of sales that open at or after the horizon's end and have no known event.

    A sale with a visit before it opens is known: its user has seen its price.
    """
    later = tables.sales.where(f.unix_micros("opens_at") >= span.until)
    visited = tables.events.where(is_known(span.as_of))
    return later.join(visited, on="sale_id", how="left_anti").select("sale_id")


def altered(tables: Tables, world: str, span: Span, seed: int) -> Tables:
    """Return the tables of one of WORLDS: known rows are unchanged, all others are altered."""
    unknown = f.broadcast(unknown_sales(tables, span))
    parts = {
        name: (rows.join(unknown, on="sale_id", how="left_anti"), rows.join(unknown, on="sale_id", how="left_semi"))
        for name, rows in tables._asdict().items()
    }
    known = is_known(span.as_of)
    parts["events"] = (tables.events.where(known), tables.events.where(~known))
    return Tables(
        *(same.unionByName(_alter_rows(rows, name, world, span, seed)) for name, (same, rows) in parts.items())
    )


def _alter_rows(rows: DataFrame, table: str, world: str, span: Span, seed: int) -> DataFrame:
    if world == "deleted":
        return rows.limit(0)
    layout = _LAYOUTS[table]
    shuffled = _shuffle_rows(rows, layout, seed)
    draw = f.pmod(f.xxhash64(f.lit(seed), *layout.key), f.lit(1 << 48))
    return shuffled if world == "shuffled" else shuffled.withColumns(_changed_columns(table, span, draw))


def _shuffle_rows(rows: DataFrame, layout: _Layout, seed: int) -> DataFrame:
    """Permute each group of columns independently among the rows; columns outside of groups are not permuted."""

    def permute(part: pa.Table) -> pa.Table:
        part = part.select(names).sort_by([(name, "ascending") for name in layout.key])
        rng = np.random.default_rng(seed)
        for group in layout.groups:
            order = rng.permutation(part.num_rows)
            for name in group:
                part = part.set_column(part.schema.get_field_index(name), name, part[name].take(order))
        return part

    names = rows.columns
    parts = f.lit(1 + rows.count() // PART_ROWS)
    return rows.groupBy(f.pmod(f.xxhash64(*layout.key), parts)).applyInArrow(permute, rows.schema)


def _changed_columns(table: str, span: Span, draw: Column) -> dict[str, Column]:
    """Return new values of columns of a table; `draw` is a random integer of at least 0."""
    if table == "events":
        return {"kind": f.when(f.col("kind") == "visit", "purchase").otherwise("visit"), **_changed_times(span, draw)}
    if table == "sales":
        return _changed_sales(draw)
    if table == "image_tags":
        return {
            "image_hash": f.concat(f.lit("changed "), "image_hash"),  # otherwise a known sale's photo would change too
            "tags": f.transform("tags", lambda tag: f.concat(f.lit("changed "), tag)),
            "probabilities": f.reverse("probabilities"),
            "weights": f.reverse("weights"),
        }
    return {}


def _changed_times(span: Span, draw: Column) -> dict[str, Column]:
    """Return new times of occurrence and recording, of which at least one is not before the instant.

    Each can be before, at or after the instant; all eight combinations occur except both before. So the leak of a
    feature that does not check one of the two times, or includes the instant itself, is not hidden by the other check.
    """
    pair = 1 + f.pmod(draw, f.lit(8))
    times = f.array(
        f.lit(span.as_of - 1) - f.pmod(draw, f.lit(_RECENT)),
        f.lit(span.as_of),
        f.lit(span.as_of + 1) + f.pmod(draw, f.lit(span.end - span.as_of)),
    )
    occurred, recorded = f.get(times, f.pmod(pair, f.lit(3))), f.get(times, f.floor(pair / 3))
    return {"occurred_at": f.timestamp_micros(occurred), "recorded_at": f.timestamp_micros(recorded)}


def _changed_sales(draw: Column) -> dict[str, Column]:
    """Return other titles, prices and attributes, no description, and later times."""
    later = f.pmod(draw, f.lit(5 * DAY))
    return {
        "opens_at": f.timestamp_micros(f.unix_micros("opens_at") + later),
        "closes_at": f.timestamp_micros(f.unix_micros("closes_at") + later + f.lit(DAY)),
        "title": f.concat(f.lit("changed "), f.pmod(draw, f.lit(7)).cast("string")),
        "description": f.lit(None).cast("string"),
        "price": 1 + f.pmod(draw, f.lit(1000)).cast("double"),
        "attributes": f.create_map(f.lit("changed"), f.pmod(draw, f.lit(3)).cast("string")),
    }


def drawn_users(events: DataFrame, as_of: int, most: int, seed: int) -> list[str]:
    """Return a random sample of at most `most` users who have both known and unknown events at an instant."""
    known = is_known(as_of)
    users = events.groupBy("user_id").agg(f.bool_or(known).alias("before"), f.bool_or(~known).alias("after"))
    drawn = users.where("before and after").orderBy(f.xxhash64(f.lit(seed), "user_id"), "user_id").limit(most)
    return sorted(row["user_id"] for row in drawn.collect())


def features(shop: Shop, as_of: int, users: list[str], moment: int | None = None) -> dict[str, pd.DataFrame]:
    """Return each feature as of an instant by its name: one row per user, one column per sale of the horizon.

    Args:
        shop: The shop, with recommenders fitted as of the instant.
        as_of: Microseconds UTC.
        users: The users.
        moment: The beginning of a quarter of an hour of the day from the instant on, as of which the features are that
            are the same for all users; the instant itself if None.
    """
    rows = read_arrow(shop.outputs / USER_HISTORIES.name, filters=[("user_id", "in", users)])
    batch = rows.sort_by("user_id").combine_chunks().to_batches()[0]
    scorer = shop.scorer(as_of)
    scored = scorer.features(Block.from_batch(batch, len(shop.catalogue)).as_of(as_of, shop.history))
    if moment is not None:
        scored = shop.moments(as_of).update_pages(scored, quarters(np.full(scored.shape[1], moment), as_of))
    sales = [shop.catalogue.sale_ids[sale] for sale in scorer.horizon.sales]
    index = batch.column("user_id").to_pylist()
    return {name: pd.DataFrame(values, index, sales) for name, values in zip(scorer.names, scored, strict=True)}


def movements(
    before: Mapping[str, pd.DataFrame], after: Mapping[str, pd.DataFrame], as_of: int
) -> dict[str, dict[str, Any]]:
    """Return how far each feature has changed for the same users and sales; a missing value counts as changed.

    Returns:
        By feature: the numbers of values `compared` and `moved` (changed by more than TOLERANCE), the `largest`
        difference, and an `example` of it; None if none moved.
    """
    return {name: _compare_feature(values, after.get(name, pd.DataFrame()), as_of) for name, values in before.items()}


def windows_that_follow_events(sales: DataFrame, events: DataFrame, until: int) -> list[str]:
    """Return a warning for each end of the sales' windows that seems to be computed from the events.

    No world alters the windows of known sales, so features of such windows leak without that any value changes.

    Args:
        sales: Table `sales`; those that close at or before `until` are looked at.
        events: Table `events`.
        until: End of the events, microseconds UTC.
    """
    columns = [
        end(f.when(f.col("kind").isin(*kinds), f.unix_micros("occurred_at"))).alias(f"{name} {noun}")
        for noun, kinds in _KINDS.items()
        for name, end in (("first", f.min), ("last", f.max))
    ]
    windows = sales.select("sale_id", *(f.unix_micros(name).alias(name) for name in _FEATURES_OF_WINDOWS))
    rows = windows.where(f.col("closes_at") <= until).join(events.groupBy("sale_id").agg(*columns), on="sale_id")
    closed = rows.toArrow().to_pandas()
    warnings = []
    for column, name in (("opens_at", "first"), ("closes_at", "last")):
        gaps = {noun: (closed[column] - closed[f"{name} {noun}"]).value_counts() for noun in _KINDS}
        noun = max(gaps, key=lambda each: gaps[each].max() if len(gaps[each]) else 0)
        count = int(gaps[noun].max()) if len(gaps[noun]) else 0
        if count >= max(_FEWEST_WINDOWS, len(closed) / 2):
            warnings.append(
                f"{column} is the {name} {noun} of the sale{_describe_gap(int(gaps[noun].idxmax()))} for {count:,} of "
                f"{plural(len(closed), 'closed sale')}: if it is computed from events, it tells what happens later, "
                "and no world varies it; take it from the shop's plan, or leave out "
                f"{_FEATURES_OF_WINDOWS[column]} (recommenders.without) and read results with care"
            )
    return warnings


_KINDS = {"event": ("visit", "purchase"), "purchase": ("purchase",), "visit": ("visit",)}
_FEWEST_WINDOWS = 5
"""Minimum number of closed sales with the same distance between an end of the window and an event."""
_FEATURES_OF_WINDOWS = {"opens_at": "'hours_open'", "closes_at": "'hours_left'"}


def _describe_gap(gap: int) -> str:
    if gap == 0:
        return ""
    sign, seconds = ("+" if gap > 0 else "-"), abs(gap) / SECOND
    unit, length = next((unit, n) for unit, n in (("day", 86400), ("h", 3600), ("s", 1)) if seconds >= n or n == 1)
    size = plural(seconds / length, unit) if unit == "day" else f"{seconds / length:g} {unit}"
    return f" {sign} {size}"


def _compare_feature(before: pd.DataFrame, after: pd.DataFrame, as_of: int) -> dict[str, Any]:
    after = after.reindex(index=before.index, columns=before.columns)
    old, new = before.to_numpy(np.float64), after.to_numpy(np.float64)
    differences = np.abs(new - old)
    moved = ~(differences <= TOLERANCE * np.maximum(np.abs(old), 1))  # nan: missing
    user, sale = divmod(int(np.where(np.isnan(differences), np.inf, differences).argmax()), len(before.columns))
    example = {
        "as_of": f"{from_micros(as_of):%Y-%m-%dT%H:%M:%SZ}",
        "user_id": before.index[user],
        "sale_id": before.columns[sale],
        "before": float(old[user, sale]),
        "after": None if np.isnan(new[user, sale]) else float(new[user, sale]),
    }
    return {
        "compared": old.size,
        "moved": int(moved.sum()),
        "largest": float(np.nanmax(differences, initial=0)),
        "example": example if moved.any() else None,
    }


def merged(found: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums of `movements` of one feature at several instants, with the example of the largest difference."""
    rows = sorted(found, key=lambda each: (each["example"] is not None, each["largest"]))
    sums = {name: sum(each[name] for each in rows) for name in ("compared", "moved")}
    return {**sums, "largest": max(each["largest"] for each in rows), "example": rows[-1]["example"]}


def refuse_leaks(result: Mapping[str, Any]) -> None:
    """Raise an error if any feature has changed with data that was not known.

    Raises:
        LeakError: If so; names each such feature, the worlds and an example.
    """
    leaks: dict[str, list[Mapping[str, Any]]] = {}
    for row in result["features"]:
        if row["moved"]:
            leaks.setdefault(row["feature"], []).append(row)
    if leaks:
        raise LeakError(
            f"{plural(len(leaks), 'feature')} with data that is not known at as_of, must be 0: "
            + "; ".join(_describe_leak(name, rows) for name, rows in leaks.items())
            + ": correct their use of events that occurred or were recorded from as_of on, or of later sales"
        )


def _describe_leak(feature: str, rows: list[Mapping[str, Any]]) -> str:
    worst = max(rows, key=lambda row: row["largest"])
    example, after = worst["example"], worst["example"]["after"]
    return (
        f"{feature} where that data is {', '.join(row['world'] for row in rows)}, for example for user "
        f"{example['user_id']} and sale {example['sale_id']} as of {example['as_of']}: {example['before']:.6g} became "
        f"{'missing' if after is None else format(after, '.6g')}"
    )
