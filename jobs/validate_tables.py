"""Raw tables → sales, events, users, rejected_rows."""

import json
from dataclasses import asdict
from pathlib import Path

from pyspark.sql import DataFrame, Observation

from jobs.run import Run, Step, main
from recsys.pipeline import sources, validation
from recsys.pipeline.validation import EVENT_RULES, EVENT_UNIQUE, SALE_RULES, USER_RULES, Rule, RuleCount
from recsys.tables import EVENTS, REJECTED_ROWS, SALES, USERS, Table

RULE_COUNTS = "rule_counts.json"


def validate_tables(run: Run, out: Path) -> str:
    """Write the rows that can be used and, apart, those that break a rule; the counts stay even where that stops."""
    selected = _select_tables(run)
    results = [_clean(SALES, validation.flag_sales(selected[SALES.name]), SALE_RULES, out)]
    if USERS.name in selected:
        results.append(_clean(USERS, validation.flag_users(selected[USERS.name]), USER_RULES, out))
    sales = SALES.read(run.spark, out)
    results.append(_clean(EVENTS, validation.flag_events(selected[EVENTS.name], sales, run.as_of), EVENT_RULES, out))

    counts = [count for of_table, _ in results for count in of_table]
    rejected = run.spark.createDataFrame([], "table string, rule string, row string")
    for _, rows in results:
        rejected = rejected.unionByName(rows) if rows is not None else rejected
    REJECTED_ROWS.write(rejected, out)
    (run.folder / RULE_COUNTS).write_text(json.dumps([asdict(count) for count in counts], indent=2))
    validation.check_counts(counts, run.settings.source.max_rejected_share)
    aside = sum(count.broken for count in counts if count.rule.action == "set aside")
    return f"{sales.count():,} sales, {EVENTS.read(run.spark, out).count():,} events; {aside:,} rows set aside"


def _select_tables(run: Run) -> dict[str, DataFrame]:
    settings = run.settings.source
    sources.check_settings(settings)
    raw = sources.read_raw_tables(run.spark, settings)
    wanted = [SALES, EVENTS, *([USERS] if sources.has_table(USERS, settings) else [])]
    return {table.name: sources.select_table(run.spark, table, settings, raw) for table in wanted}


def _clean(
    table: Table, flagged: DataFrame, rules: tuple[Rule, ...], out: Path
) -> tuple[list[RuleCount], DataFrame | None]:
    """Write a table's usable rows; return how many broke each rule, and those set aside if there are any."""
    observation = Observation(table.name)
    usable = validation.usable(validation.observed_rules(flagged, rules, observation), rules)
    table.write(validation.first_copies(usable) if table is EVENTS else usable.select(*table.columns), out)
    counts = validation.rule_counts(table, rules, observation)
    aside = validation.set_aside(flagged, rules)
    if table is EVENTS:
        counts.append(_count_copies(flagged.sparkSession.read.parquet(str(out / table.name)).count(), counts))
        if counts[-1].broken:
            aside = aside.unionByName(validation.later_copies(validation.usable(flagged, rules)))
    counts = validation.with_examples(counts, flagged, table)
    any_aside = any(count.broken for count in counts if count.rule.action == "set aside")
    return counts, validation.rejected_rows(aside, table) if any_aside else None


def _count_copies(written: int, counts: list[RuleCount]) -> RuleCount:
    unusable = sum(count.broken for count in counts if count.rule.action != "kept")
    return RuleCount(EVENTS.name, EVENT_UNIQUE, counts[0].rows, counts[0].rows - unusable - written)


VALIDATE_TABLES = Step(
    "validate_tables",
    validate_tables,
    outputs=("sales", "events", "rejected_rows"),
    depends_on=lambda run: [run.as_of, sources.fingerprint(run.settings.source)],
)

if __name__ == "__main__":
    main(VALIDATE_TABLES)
