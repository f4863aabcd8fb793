"""Raw tables → sales, sale_images, events, users, rejected_rows."""

import json
import shutil
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pyspark.sql import DataFrame, Observation, SparkSession

from jobs.engine.nights import main
from jobs.engine.run import Run, Step
from recsys.erasure.logs_and_tables import erased_hashes
from recsys.errors import InputError, RecsysError
from recsys.pipeline import sources, validation
from recsys.pipeline.validation import EVENT_RULES, EVENT_UNIQUE, IMAGE_RULES, SALE_RULES, USER_RULES, Rule, RuleCount
from recsys.tables.night import EVENTS, REJECTED_ROWS, SALE_IMAGES, SALES, USERS, Table
from recsys.wording import plural

RULE_COUNTS = "rule_counts.json"
REFUSED_RULE_COUNTS = "refused_rule_counts.json"
"""Counts of a refused source, in the run's folder; those of the tables in use are in RULE_COUNTS beside it."""


def validate_tables(run: Run, out: Path) -> str:
    """Write the usable rows of each table, the rows that break a rule, and the number of rows that break each rule.

    The counts of a refused source are written too, to REFUSED_RULE_COUNTS.

    Raises:
        EmptyInputError: If table sales or events has no usable row.
        RejectedRowsError: If too large a share of a table's rows is set aside.
    """
    selected = _select_tables(run)
    cleaned = [_write_usable_rows(SALES, validation.flag_sales(selected[SALES.name]), SALE_RULES, out)]
    if USERS.name in selected:
        cleaned.append(_write_usable_rows(USERS, validation.flag_users(selected[USERS.name]), USER_RULES, out))
    else:
        USERS.write_rows(pd.DataFrame(columns=list(USERS.columns)), out)
    sales = SALES.read(run.spark, out)
    if SALE_IMAGES.name in selected:
        cleaned.append(
            _write_usable_rows(SALE_IMAGES, validation.flag_images(selected[SALE_IMAGES.name], sales), IMAGE_RULES, out)
        )
    else:
        SALE_IMAGES.write_rows(pd.DataFrame(columns=list(SALE_IMAGES.columns)), out)
    cleaned.append(
        _write_usable_rows(EVENTS, validation.flag_events(selected[EVENTS.name], sales, run.as_of), EVENT_RULES, out)
    )

    REJECTED_ROWS.write(_union_all(_empty_frame(run.spark, REJECTED_ROWS), [each.aside for each in cleaned]), out)
    broken = _union_all(REJECTED_ROWS.read(run.spark, out), [each.used for each in cleaned])
    counts = validation.with_examples([count for each in cleaned for count in each.counts], broken)
    (out / RULE_COUNTS).write_text(json.dumps([asdict(count) for count in counts], indent=2))
    try:
        validation.check_counts(counts, run.settings.source.max_rejected_share)
    except RecsysError:
        shutil.copy(out / RULE_COUNTS, run.folder / REFUSED_RULE_COUNTS)
        raise
    aside = sum(count.broken for count in counts if count.rule.action == "set aside")
    sales_and_events = f"{plural(SALES.rows(out), 'sale')}, {plural(EVENTS.rows(out), 'event')}"
    return f"{sales_and_events}; {plural(aside, 'row')} set aside"


def _select_tables(run: Run) -> dict[str, DataFrame]:
    settings = run.settings.source
    sources.check_settings(settings)
    raw = sources.read_raw_tables(run.spark, settings, Path(run.settings.folder))
    wanted = [SALES, EVENTS, *(table for table in (USERS, SALE_IMAGES) if sources.has_table(table, settings))]
    erased = erased_hashes(Path(run.settings.folder))
    selected = {table.name: sources.select_table(run.spark, table, settings, raw) for table in wanted}
    return {name: validation.without_users(rows, erased) for name, rows in selected.items()}


class _Cleaned(NamedTuple):
    counts: list[RuleCount]
    aside: DataFrame | None
    """Rows that are set aside, as rows of table `rejected_rows`; None if there are none."""
    used: DataFrame | None
    """Rows that break a rule and are used, in the same form; None if there are none."""


def _write_usable_rows(table: Table, flagged: DataFrame, rules: tuple[Rule, ...], out: Path) -> _Cleaned:
    """Write a table's usable rows; return the number of rows that break each rule, and these rows."""
    observation = Observation(table.name)
    usable = validation.usable(validation.observed_rules(flagged, rules, observation), rules)
    _write_table(table, validation.first_copies(usable) if table is EVENTS else usable.select(*table.columns), out)
    written = table.rows(out)
    counts = validation.rule_counts(table, rules, flagged, observation, written)
    aside = validation.set_aside(flagged, rules)
    if table is EVENTS:
        counts.append(_count_copies(written, counts))
        if counts[-1].broken:
            aside = aside.unionByName(validation.later_copies(validation.usable(flagged, rules)))
    actions = {count.rule.action for count in counts if count.broken}
    return _Cleaned(
        counts,
        validation.rejected_rows(aside, table) if "set aside" in actions else None,
        validation.rejected_rows(validation.used_despite_rule(flagged, rules), table) if "kept" in actions else None,
    )


def _write_table(table: Table, rows: DataFrame, out: Path) -> None:
    try:
        table.write(rows, out)
    except sources.SPARK_ERRORS as error:  # a value that the source's SQL cannot cast, a damaged file
        raise InputError(
            f"table {table.name}: {sources.first_line(error)}: correct the raw rows, or allow for them in the source's "
            f"{table.name}.sql, as with try_cast"
        ) from error


def _count_copies(written: int, counts: list[RuleCount]) -> RuleCount:
    unusable = sum(count.broken for count in counts if count.rule.action != "kept")
    return RuleCount(EVENTS.name, EVENT_UNIQUE, counts[0].rows, counts[0].rows - unusable - written)


def _union_all(rows: DataFrame, others: list[DataFrame | None]) -> DataFrame:
    return reduce(DataFrame.unionByName, [other for other in others if other is not None], rows)


def _empty_frame(spark: SparkSession, table: Table) -> DataFrame:
    columns = ", ".join(f"{name} {kind.simpleString()}" for name, kind in table.columns.items())
    return spark.createDataFrame([], columns)


VALIDATE_TABLES = Step(
    "validate_tables",
    validate_tables,
    outputs=("sales", "sale_images", "events", "users", "rejected_rows", RULE_COUNTS),
    depends_on=lambda run: [
        run.as_of,
        sources.fingerprint(run.settings.source, Path(run.settings.folder)),
        *erased_hashes(Path(run.settings.folder)),
    ],
)

if __name__ == "__main__":
    main(VALIDATE_TABLES)
