"""Rows of the source are flagged with the first rule that they break, and used, or set aside with the rule's name."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, Observation, Window
from pyspark.sql import functions as f
from pyspark.sql.window import WindowSpec

from recsys.ids import INVISIBLE
from recsys.instants import EARLIEST, LATEST
from recsys.pipeline.row_rules import (
    EVENT_RULES,
    IMAGE_COPY_RULES,
    IMAGE_RULES,
    KEPT,
    LARGE_SHARE,
    MANY_EVENTS,
    NOT_COUNTED,
    SALE_COPY_RULES,
    SALE_RULES,
    SET_ASIDE,
    USER_COPY_RULES,
    USER_RULES,
    Activity,
    Rule,
    RuleCount,
    names_of,
)
from recsys.tables.night import SALE_IMAGES, SALES, USERS, Table

_EXAMPLES = 3
"""Number of example rows that are shown for each broken rule."""


class Cleaned(NamedTuple):
    """What was found in a table of the source."""

    counts: list[RuleCount]
    aside: DataFrame | None
    """Rows that are set aside, as rows of table `rejected_rows`; None if there are none."""
    used: DataFrame | None = None
    """Rows that break a rule and are used, in the same form; None if there are none."""


def flag_sales(sales: DataFrame, as_of: int) -> DataFrame:
    """Add `rule`, the name of the first rule that a row breaks or null.

    Of several windows of a sale_id the one that is open at `as_of` is used (of several the last to close), else the
    next to open, else the last. Ids are trimmed; windows of usable rows are cut to the product's range of instants.
    """
    flagged = _flag_rows(_with_trimmed_ids(sales), SALE_RULES)
    opens, closes = f.unix_micros("opens_at"), f.unix_micros("closes_at")
    nearest = (closes <= as_of, opens > as_of, f.when(opens > as_of, opens).otherwise(-closes))
    rest = ("opens_at", "title", "description", "price")
    flagged = _flag_copies(flagged, SALES, ("sale_id",), (*nearest, *rest), SALE_COPY_RULES)
    is_broken = f.coalesce(f.col("rule").isin(names_of(SALE_RULES, SET_ASIDE)), f.lit(False))
    in_range = {
        "opens_at": f.greatest("opens_at", f.timestamp_micros(f.lit(EARLIEST))),
        "closes_at": f.least("closes_at", f.timestamp_micros(f.lit(LATEST))),
    }
    return flagged.withColumns({name: f.when(is_broken, f.col(name)).otherwise(cut) for name, cut in in_range.items()})


def without_users(rows: DataFrame, hashes: Sequence[str]) -> DataFrame:
    """Return the rows of all users but some, whose ids have the given SHA-256; rows without a user_id stay."""
    if not hashes or "user_id" not in rows.columns:
        return rows
    return rows.where(f.coalesce(~f.sha2(_trimmed("user_id"), 256).isin(*hashes), f.lit(True)))


def sale_windows(flagged: DataFrame) -> DataFrame:
    """Return each sale_id of flagged sales with `windows`, those of its valid rows: none if every row is broken."""
    is_valid = f.col("rule").isNull() | ~f.col("rule").isin(names_of(SALE_RULES, SET_ASIDE))
    window = f.when(is_valid, f.struct("opens_at", "closes_at"))
    return flagged.where("sale_id is not null").groupBy("sale_id").agg(f.collect_set(window).alias("windows"))


def flag_users(users: DataFrame) -> DataFrame:
    """Add `rule`, the name of the first rule that a row breaks or null."""
    flagged = _flag_rows(_with_trimmed_ids(users), USER_RULES)
    return _flag_copies(flagged, USERS, ("user_id",), (f.to_json("attributes"),), USER_COPY_RULES)


def flag_images(images: DataFrame, windows: DataFrame) -> DataFrame:
    """Add `rule`, the name of the first rule that a row breaks or null; `windows` are from `sale_windows`."""
    known = _with_trimmed_ids(images).join(f.broadcast(windows), on="sale_id", how="left")
    flagged = _flag_rows(known, IMAGE_RULES).drop("windows")
    return _flag_copies(flagged, SALE_IMAGES, ("sale_id", "position"), ("image_uri",), IMAGE_COPY_RULES)


def flag_events(events: DataFrame, windows: DataFrame, as_of: int, present: int) -> DataFrame:
    """Add `rule`, the name of the first rule that a row breaks or null; a missing `recorded_at` becomes `occurred_at`.

    Duplicates are not flagged here: see `write_days`.

    Args:
        events: Table `events` of the source; further columns are kept.
        windows: From `sale_windows`.
        as_of: Events from this instant on are not known yet, microseconds UTC.
        present: Events after this instant are broken, microseconds UTC.
    """
    rules = [
        replace(rule, broken=rule.broken.replace(":as_of", str(as_of)).replace(":present", str(present)))
        for rule in EVENT_RULES
    ]
    known = _with_trimmed_ids(events).withColumn("recorded_at", f.coalesce("recorded_at", "occurred_at"))
    flagged = _flag_rows(known.join(f.broadcast(windows), on="sale_id", how="left"), rules)
    return flagged.select(*events.columns, "rule")


def usable(flagged: DataFrame, rules: Iterable[Rule]) -> DataFrame:
    """Return the rows that are used: they break no rule, or one with action "kept"."""
    return flagged.where(f.col("rule").isNull() | f.col("rule").isin(names_of(rules, KEPT)))


def set_aside(flagged: DataFrame, rules: Iterable[Rule]) -> DataFrame:
    """Return the rows that are set aside, whether they are counted or not."""
    return flagged.where(f.col("rule").isin(names_of(rules, SET_ASIDE, NOT_COUNTED)))


def not_set_aside(flagged: DataFrame, rules: Iterable[Rule]) -> DataFrame:
    """Return the other rows, those that are not known yet included."""
    return flagged.where(f.col("rule").isNull() | ~f.col("rule").isin(names_of(rules, SET_ASIDE, NOT_COUNTED)))


def used_despite_rule(flagged: DataFrame, rules: Iterable[Rule]) -> DataFrame:
    """Return the rows that break a rule with action "kept": they are used all the same."""
    return flagged.where(f.col("rule").isin(names_of(rules, KEPT)))


def rejected_rows(flagged: DataFrame, table: Table, name: str = "") -> DataFrame:
    """Return flagged rows of a table as rows of table `rejected_rows`: the rule's name and the row as JSON.

    Args:
        flagged: The rows.
        table: Its columns are in the JSON.
        name: The name of the source's table if it is not that of `table`.
    """
    row = f.to_json(
        f.struct(*[column for column in table.columns if column in flagged.columns]), {"ignoreNullFields": "false"}
    )
    return flagged.select(f.lit(name or table.name).alias("table"), f.col("rule"), row.alias("row"))


def observed_rules(flagged: DataFrame, rules: tuple[Rule, ...], observation: Observation) -> DataFrame:
    """Return the same rows; when they are written, the observation gets the number that break each rule."""
    return flagged.observe(observation, *_count_columns(rules))


def rule_counts(
    table: str, rules: tuple[Rule, ...], flagged: DataFrame, observation: Observation | None = None
) -> list[RuleCount]:
    """Return the number of rows that break each rule: from an observation, or by counting them."""
    seen = observation.get if observation else flagged.agg(*_count_columns(rules)).collect()[0].asDict()
    return [RuleCount(table, rule, seen["rows"], seen[rule.name]) for rule in rules]


def _count_columns(rules: tuple[Rule, ...]) -> list[Column]:
    broken = [f.count_if(f.col("rule") == rule.name).alias(rule.name) for rule in rules]
    return [f.count(f.lit(1)).alias("rows"), *broken]


def with_examples(counts: list[RuleCount], broken: DataFrame) -> list[RuleCount]:
    """Return the counts with a few of the rows that break each rule, from rows of table `rejected_rows`."""
    if all(count.passed for count in counts):
        return counts
    order = Window.partitionBy("table", "rule").orderBy(f.xxhash64("row"), "row")
    numbered = broken.withColumn("number", f.row_number().over(order)).where(f.col("number") <= _EXAMPLES)
    examples: dict[tuple[str, str], list[str]] = {}
    for row in sorted(numbered.collect(), key=itemgetter("number")):
        examples.setdefault((row["table"], row["rule"]), []).append(row["row"])
    return [replace(count, examples=tuple(examples.get((count.table, count.rule.name), ()))) for count in counts]


def activity(events: DataFrame, rows: int) -> Activity:
    """Summarise who acts in usable events, and until when.

    Args:
        events: Table `events`.
        rows: Its number of rows.
    """
    users = events.groupBy("user_id").agg(f.count("*").alias("events"), f.max("occurred_at").alias("last"))
    is_large = f.col("events") >= max(LARGE_SHARE * rows, MANY_EVENTS)
    found = users.agg(
        f.count("*").alias("users"),
        f.unix_micros(f.max("last")).alias("last"),
        f.collect_list(f.when(is_large, f.struct("events", "user_id"))).alias("large"),
    ).collect()[0]
    return Activity(rows, found["users"], found["last"], {row["user_id"]: row["events"] for row in found["large"]})


def _with_trimmed_ids(rows: DataFrame) -> DataFrame:
    ids = [name for name in ("user_id", "sale_id") if name in rows.columns]
    return rows.withColumns({name: _trimmed(name) for name in ids})


def _trimmed(column: str) -> Column:
    """Return a column of ids without blanks and invisible characters at their ends.

    Spark looks for each character of an id among the invisible ones, which takes five times as long as reading the id:
    one that begins and ends with a visible character of ASCII, as nearly all do, is known by these two bytes.
    """
    ends = (f.substring(f.col(column).cast("binary"), position, 1) for position in (1, -1))
    are_visible = [(end >= f.lit(b"!")) & (end <= f.lit(b"~")) for end in ends]
    return f.when(are_visible[0] & are_visible[1], f.col(column)).otherwise(f.btrim(column, f.lit(INVISIBLE)))


def _flag_rows(rows: DataFrame, rules: Iterable[Rule]) -> DataFrame:
    # Nested: with one case of many branches Spark needs 0.4 s less to plan, but 1/6 more time for millions of rows.
    flag = f.lit(None).cast("string")
    for rule in reversed(list(rules)):
        flag = f.when(f.expr(rule.broken), f.lit(rule.name)).otherwise(flag)
    return rows.withColumn("rule", flag)


def _flag_copies(
    flagged: DataFrame, table: Table, key: tuple[str, ...], order: tuple[str | Column, ...], rules: tuple[Rule, ...]
) -> DataFrame:
    """Flag rows that break one of the rules about rows with equal keys, and no other rule.

    The rules' conditions may use `copy`, the number of the row among those with its key, in order; `is_equal`, whether
    all columns equal those of the first; and for sales `has_other_window`.
    """
    in_order = Window.partitionBy(*key).orderBy(f.col("rule").isNotNull(), *order)
    helpers = {"copy": f.row_number().over(in_order), "is_equal": _equals_first(table.columns, in_order)}
    if table is SALES:
        helpers["has_other_window"] = ~_equals_first(("opens_at", "closes_at"), in_order)
    numbered = flagged.withColumns(helpers)
    both = _flag_rows(numbered.withColumnRenamed("rule", "earlier_rule"), rules)
    return both.withColumn("rule", f.coalesce("earlier_rule", "rule")).drop("earlier_rule", *helpers)


def _equals_first(columns: Iterable[str], in_order: WindowSpec) -> Column:
    in_any_order = {"attributes": f.array_sort(f.map_entries("attributes")).alias("attributes")}
    row = f.to_json(f.struct(*(in_any_order.get(name, f.col(name)) for name in columns)))
    return row == f.first(row).over(in_order)
