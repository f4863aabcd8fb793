"""Rules for rows of the source: a row that breaks one is set aside with the rule's name, or used and counted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pyspark.sql import Column, DataFrame, Observation, Window
from pyspark.sql import functions as f

from recsys.errors import EmptyInputError, RejectedRowsError
from recsys.snapshot.format import MAX_IMAGES
from recsys.tables.night import EVENTS, SALE_IMAGES, SALES, USERS, Table
from recsys.wording import plural

MAX_ID_BYTES = 256
_EXAMPLES = 3
"""Number of example rows that are shown for each broken rule."""


@dataclass(frozen=True)
class Rule:
    """A rule for the rows of a table."""

    name: str
    meaning: str
    """The rule in words."""
    broken: str
    """Condition in SQL that is true for rows that break the rule."""
    action: Literal["set aside", "kept", "not yet"] = "set aside"
    """What happens to a row that breaks the rule: it is moved to table `rejected_rows`, used and counted, or left out
    because it is not known yet."""


def _id_rules(column: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{column}_present", f"{column} is neither null nor empty", f"coalesce({column}, '') = ''"),
        Rule(
            f"{column}_short",
            f"{column} has at most {MAX_ID_BYTES} bytes",
            f"octet_length({column}) > {MAX_ID_BYTES}",
        ),
        Rule(f"{column}_printable", f"{column} has no control character", f"{column} rlike '\\\\p{{Cntrl}}'"),
    )


SALE_RULES = (
    *_id_rules("sale_id"),
    Rule(
        "sale_instants_present",
        "opens_at and closes_at are not null",
        "opens_at is null or closes_at is null",
    ),
    Rule("sale_closes_after_it_opens", "closes_at is later than opens_at", "closes_at <= opens_at"),
    Rule("title_present", "title is neither null nor empty", "coalesce(trim(title), '') = ''"),
    Rule(
        "price_valid",
        "price is null or a positive finite number",
        "not (price > 0 and price < double('Infinity'))",
    ),
    Rule("sale_id_unique", "sale_id is unique; of duplicates the sale that opens first is used", "copy > 1"),
)

EVENT_RULES = (
    *_id_rules("user_id"),
    Rule("kind_known", "kind is visit or purchase", "kind is null or kind not in ('visit', 'purchase')"),
    Rule("occurred_at_present", "occurred_at is not null", "occurred_at is null"),
    Rule("sale_known", "sale_id is that of a valid sale", "opens_at is null"),
    Rule(
        "revenue_finite",
        "revenue is null or a finite number",
        "isnan(revenue) or abs(revenue) = double('Infinity')",
    ),
    Rule(
        "known_as_of",
        "the event occurred before as_of; a later one is not known yet",
        "occurred_at >= timestamp_micros(:as_of)",
        "not yet",
    ),
    Rule(
        "purchase_while_open",
        "a purchase is in [opens_at, closes_at) of its sale; others are used for taste, but not as training examples",
        "kind = 'purchase' and not (occurred_at >= opens_at and occurred_at < closes_at)",
        "kept",
    ),
)
IMAGE_RULES = (
    Rule("sale_known", "sale_id is that of a valid sale", "opens_at is null"),
    Rule("image_uri_present", "image_uri is neither null nor empty", "coalesce(image_uri, '') = ''"),
    Rule(
        "position_valid",
        f"position is in 0..{MAX_IMAGES - 1}, 0 for the cover",
        f"position is null or position < 0 or position >= {MAX_IMAGES}",
    ),
    Rule("position_unique", "position is unique per sale; of duplicates the first image_uri is used", "copy > 1"),
)
EVENT_UNIQUE = Rule(
    "event_unique",
    "an event (user_id, sale_id, kind, occurred_at) is unique; of duplicates the first recorded is used",
    "copy > 1",
)
USER_RULES = (*_id_rules("user_id"), Rule("user_id_unique", "user_id is unique; of duplicates one is used", "copy > 1"))


@dataclass(frozen=True)
class RuleCount:
    """Number of rows of a table that broke a rule, with examples."""

    table: str
    rule: Rule
    rows: int
    """Number of rows of the table."""
    broken: int
    """Number of rows that break the rule and no earlier one."""
    examples: tuple[str, ...] = ()
    """A few of these rows, as JSON."""

    @property
    def passed(self) -> bool:
        """Whether no row broke the rule; an event that is not known yet is not an error."""
        return self.broken == 0 or self.rule.action == "not yet"


def without_users(rows: DataFrame, hashes: Sequence[str]) -> DataFrame:
    """Return the rows of all users but some, whose ids have the given SHA-256; rows without a user_id stay."""
    if not hashes or "user_id" not in rows.columns:
        return rows
    return rows.where(f.coalesce(~f.sha2(f.col("user_id"), 256).isin(*hashes), f.lit(True)))


def flag_sales(sales: DataFrame) -> DataFrame:
    """Add `rule`, the name of the first rule that a row breaks or null."""
    first = ("opens_at", "closes_at", "title", "description", "price")
    return _flag_copies(_flag_rows(sales, SALE_RULES[:-1]), "sale_id", first, SALE_RULES[-1])


def flag_users(users: DataFrame) -> DataFrame:
    """Add `rule`, the name of the first rule that a row breaks or null."""
    return _flag_copies(_flag_rows(users, USER_RULES[:-1]), "user_id", (f.to_json("attributes"),), USER_RULES[-1])


def flag_images(images: DataFrame, sales: DataFrame) -> DataFrame:
    """Add `rule`, the name of the first rule that a row breaks or null."""
    known = images.join(f.broadcast(sales.select("sale_id", "opens_at")), on="sale_id", how="left")
    flagged = _flag_rows(known, IMAGE_RULES[:-1]).select(*SALE_IMAGES.columns, "rule")
    return _flag_copies(flagged, ("sale_id", "position"), ("image_uri",), IMAGE_RULES[-1])


def flag_events(events: DataFrame, sales: DataFrame, as_of: int) -> DataFrame:
    """Add `rule`, the name of the first rule that a row breaks or null; a missing `recorded_at` becomes `occurred_at`.

    Duplicates are not flagged here: see `first_copies` and `later_copies`.
    """
    windows = f.broadcast(sales.select("sale_id", "opens_at", "closes_at"))
    rules = [
        Rule(rule.name, rule.meaning, rule.broken.replace(":as_of", str(as_of)), rule.action) for rule in EVENT_RULES
    ]
    known = events.withColumn("recorded_at", f.coalesce("recorded_at", "occurred_at"))
    return _flag_rows(known.join(windows, on="sale_id", how="left"), rules).select(*EVENTS.columns, "rule")


def first_copies(events: DataFrame) -> DataFrame:
    """Return one row per event, with the earliest `recorded_at` and the largest revenue of its copies.

    Rows are partitioned by user first, so that later steps, which group by user, need no second exchange.
    """
    key = ["user_id", "sale_id", "kind", "occurred_at"]
    copies = events.repartition("user_id").groupBy(*key)
    return copies.agg(f.min("recorded_at").alias("recorded_at"), f.max("revenue").alias("revenue")).select(
        *EVENTS.columns
    )


def later_copies(events: DataFrame) -> DataFrame:
    """Return the duplicates that `first_copies` leaves out: all but the first recorded copy of each event."""
    order = Window.partitionBy("user_id", "sale_id", "kind", "occurred_at").orderBy("recorded_at", f.desc("revenue"))
    later = events.withColumn("copy", f.row_number().over(order)).where("copy > 1").drop("copy")
    return later.withColumn("rule", f.lit(EVENT_UNIQUE.name))


def usable(flagged: DataFrame, rules: tuple[Rule, ...]) -> DataFrame:
    """Return the rows that are used: they break no rule, or one with action "kept"."""
    return flagged.where(f.col("rule").isNull() | f.col("rule").isin(_names_of_rules(rules, "kept")))


def set_aside(flagged: DataFrame, rules: tuple[Rule, ...]) -> DataFrame:
    """Return the rows that break a rule with action "set aside"."""
    return flagged.where(f.col("rule").isin(_names_of_rules(rules, "set aside")))


def used_despite_rule(flagged: DataFrame, rules: tuple[Rule, ...]) -> DataFrame:
    """Return the rows that break a rule with action "kept": they are used all the same."""
    return flagged.where(f.col("rule").isin(_names_of_rules(rules, "kept")))


def rejected_rows(flagged: DataFrame, table: Table) -> DataFrame:
    """Return flagged rows of a table as rows of table `rejected_rows`: the rule's name and the row as JSON."""
    row = f.to_json(
        f.struct(*[name for name in table.columns if name in flagged.columns]), {"ignoreNullFields": "false"}
    )
    return flagged.select(f.lit(table.name).alias("table"), f.col("rule"), row.alias("row"))


def observed_rules(flagged: DataFrame, rules: tuple[Rule, ...], observation: Observation) -> DataFrame:
    """Return the same rows; when they are written, the observation gets the number that break each rule."""
    return flagged.observe(observation, *_count_columns(rules))


def rule_counts(
    table: Table, rules: tuple[Rule, ...], flagged: DataFrame, observation: Observation, written: int
) -> list[RuleCount]:
    """Return the counts of the observation; if no row was written, Spark may have skipped it, so count the rows
    again."""
    seen = observation.get if written else flagged.agg(*_count_columns(rules)).collect()[0].asDict()
    return [RuleCount(table.name, rule, seen["rows"], seen[rule.name]) for rule in rules]


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
    for row in numbered.orderBy("number").collect():
        examples.setdefault((row["table"], row["rule"]), []).append(row["row"])
    return [replace(count, examples=tuple(examples.get((count.table, count.rule.name), ()))) for count in counts]


def check_counts(counts: list[RuleCount], max_rejected_share: float) -> None:
    """Check that enough rows of each table can be used.

    Raises:
        EmptyInputError: If table sales or events has no usable row.
        RejectedRowsError: If too large a share of a table's rows is set aside.
    """
    for table in (SALES, SALE_IMAGES, EVENTS, USERS):
        of_table = [count for count in counts if count.table == table.name]
        if not of_table:
            continue
        rows = of_table[0].rows
        aside = sum(count.broken for count in of_table if count.rule.action == "set aside")
        if aside > max_rejected_share * rows:
            worst = max((c for c in of_table if c.rule.action == "set aside"), key=lambda count: count.broken)
            raise RejectedRowsError(
                f"table {table.name}: {aside:,} of {rows:,} rows break a rule, must be at most "
                f"{max_rejected_share:.2%} (source.max_rejected_share); most break '{worst.rule.name}' "
                f"({worst.rule.meaning}): {plural(worst.broken, 'row')}, such as {(worst.examples or ('',))[0][:300]}: "
                "correct the source, or allow a larger share"
            )
        unusable = {count.rule.name: count.broken for count in of_table if count.broken and count.rule.action != "kept"}
        if rows == sum(unusable.values()) and table in (SALES, EVENTS):
            why = ", ".join(f"{broken:,} break '{name}'" for name, broken in unusable.items()) or "the source has none"
            raise EmptyInputError(
                f"table {table.name} has 0 rows that can be used, needs at least 1 ({why}): check the source's path "
                "and SQL, and --as-of"
            )


def _names_of_rules(rules: tuple[Rule, ...], action: str) -> list[str]:
    return [rule.name for rule in rules if rule.action == action]


def _flag_rows(rows: DataFrame, rules: tuple[Rule, ...] | list[Rule]) -> DataFrame:
    flag = f.lit(None).cast("string")
    for rule in reversed(rules):
        flag = f.when(f.expr(rule.broken), f.lit(rule.name)).otherwise(flag)
    return rows.withColumn("rule", flag)


def _flag_copies(
    flagged: DataFrame, key: str | tuple[str, ...], order: tuple[str | Column, ...], unique: Rule
) -> DataFrame:
    """Flag all but the first of the rows with equal keys that break no other rule."""
    usable_first = Window.partitionBy(*([key] if isinstance(key, str) else key)).orderBy(
        f.col("rule").isNotNull(), *order
    )
    copies = flagged.withColumn("copy", f.row_number().over(usable_first))
    is_later = f.col("rule").isNull() & f.expr(unique.broken)
    return copies.withColumn("rule", f.when(is_later, f.lit(unique.name)).otherwise(f.col("rule"))).drop("copy")
