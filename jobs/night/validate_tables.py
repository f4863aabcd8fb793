"""Raw tables → sales, sale_images, events, users, rejected_rows."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import reduce

import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame, Observation

from jobs.engine.nights import main
from jobs.engine.run import Run, Step
from jobs.night.validate_events import EVENT_DAYS, activity, readable, validate_events
from recsys.data_profile.rule_counts import REFUSED_RULE_COUNTS, RULE_COUNTS
from recsys.erasure.logs_and_tables import erased_hashes
from recsys.errors import InputError, RecsysError
from recsys.pipeline import raw_schemas, row_rules, sources, validation
from recsys.pipeline.event_days import REJECTED_EVENTS
from recsys.pipeline.raw_rows import RawRows, first_rows
from recsys.pipeline.row_rules import (
    EVENT_RULES,
    EVENTS_RECENT,
    IMAGE_COPY_RULES,
    IMAGE_RULES,
    KEPT,
    NOT_COUNTED,
    SALE_COPY_RULES,
    SALE_OPEN,
    SALE_RULES,
    SET_ASIDE,
    USER_COPY_RULES,
    USER_ID_USUAL,
    USER_RULES,
    Rule,
    RuleCount,
)
from recsys.pipeline.validation import Cleaned
from recsys.shop.catalogue import Catalogue
from recsys.storage.outputs import newest_runs
from recsys.storage.places import Place
from recsys.tables.night import EVENTS, REJECTED_ROWS, SALE_IMAGES, SALES, USERS, Table
from recsys.tables.parts import read_arrow
from recsys.wording import plural

_log = logging.getLogger(__name__)


_LONGEST_EXAMPLES = 300
_WARNED = (
    *(
        rule
        for rule in SALE_COPY_RULES + EVENT_RULES
        if rule.name in ("sale_id_meant", "sale_text_decoded", "user_id_meant")
    ),
    USER_ID_USUAL,
    EVENTS_RECENT,
    SALE_OPEN,
)


def validate_tables(run: Run, out: Place) -> str:
    """Write the usable rows of each table, the rows that break a rule, and the number of rows that break each rule.

    The counts of a refused source are written too, to REFUSED_RULE_COUNTS.

    Raises:
        EmptyInputError: If table sales has no usable row, or the data end in the past: no sale is open, and no event is
            in the history window.
        RejectedRowsError: If too large a share of a table's rows is broken.
    """
    cleaned, events_of_shop = _write_tables(run, out)
    counts = _write_findings(run, out, cleaned, _counts_of_whole_tables(run, out), events_of_shop)
    sales_and_events = f"{plural(SALES.rows(out), 'sale')}, {plural(EVENTS.rows(out), 'event')}"
    return f"{sales_and_events}; {row_rules.summary(counts)}"


def validate_sales(run: Run, out: Place) -> str:
    """Write the usable rows of sales and their photos alone, and what breaks a rule, as `validate_tables` does.

    Raises:
        EmptyInputError: If table sales has no usable row.
        RejectedRowsError: If too large a share of a table's rows is broken.
    """
    settings = sources.with_tables(run.settings.source, (SALES, SALE_IMAGES))
    select = _selecting(run, sources.read_raw_tables(run.spark, settings, run.settings.place))
    cleaned, windows = _write_sales(run, select, out)
    counts = _write_findings(run, out, [cleaned, *_write_photos(run, select, windows, out)])
    sales_and_photos = f"{plural(SALES.rows(out), 'sale')}, {plural(SALE_IMAGES.rows(out), 'photo')}"
    return f"{sales_and_photos}; {row_rules.summary(counts)}"


def _write_findings(
    run: Run,
    out: Place,
    cleaned: list[Cleaned],
    of_whole_tables: Sequence[RuleCount] = (),
    events_of_shop: int | None = None,
) -> list[RuleCount]:
    """Write the rows that break a rule and their counts, check the counts, and return them."""
    aside = _union_all(REJECTED_ROWS.empty(run.spark), [each.aside for each in cleaned])
    REJECTED_ROWS.write(aside.repartition(1).sortWithinPartitions(*REJECTED_ROWS.columns), out)
    broken = _union_all(REJECTED_ROWS.read(run.spark, out), [each.used for each in cleaned])
    counts = validation.with_examples([count for each in cleaned for count in each.counts], broken)
    counts += of_whole_tables
    order = list(dict.fromkeys(count.table for count in counts))
    counts.sort(key=lambda count: order.index(count.table))
    (out / RULE_COUNTS).write_text(json.dumps([asdict(count) for count in counts], indent=2))
    try:
        row_rules.check_counts(counts, run.settings.source.max_rejected_share, events_of_shop)
    except RecsysError:
        (run.folder / REFUSED_RULE_COUNTS).write_bytes((out / RULE_COUNTS).read_bytes())
        raise
    _warn(counts)
    return counts


def read_raw_rows(run: Run) -> list[RawRows]:
    """Return a few rows of each of the shop's raw tables as they are read, whatever is wrong with them.

    Raises:
        InputError: If a table cannot be read.
    """
    settings = run.settings.source
    sources.check_settings(settings)
    raw = sources.read_raw_tables(run.spark, settings, run.settings.place)
    return first_rows({name: raw[name] for name in settings.raw})


_Select = Callable[[Table], DataFrame]


def _write_tables(run: Run, out: Place) -> tuple[list[Cleaned], int | None]:
    """Write the usable rows of all tables.

    Returns:
        What was found in each table of the source; the number of events that the service did not record, None if it
        recorded none.
    """
    settings = run.settings.source
    sources.check_settings(settings)
    raw = sources.read_raw_tables(run.spark, settings, run.settings.place)
    changes = _name_changes_of_columns(run, {name: raw[name] for name in settings.raw}, out)
    select = _selecting(run, raw, changes)
    of_sales, windows = _write_sales(run, select, out)
    cleaned = [of_sales]
    if sources.has_table(USERS, settings):
        flagged = validation.flag_users(select(USERS))
        cleaned.append(_write_usable_rows(USERS, flagged, USER_RULES + USER_COPY_RULES, out))
    else:
        USERS.write_rows(pd.DataFrame(columns=list(USERS.columns)), out)
    cleaned += _write_photos(run, select, windows, out)
    try:
        events = validate_events(run, raw, windows, out)
    except InputError as error:
        raise raw_schemas.explained(error, changes, settings) from error
    return [*cleaned, *events.cleaned], events.of_shop


def _name_changes_of_columns(run: Run, raw: dict[str, DataFrame], out: Place) -> list[raw_schemas.Change]:
    """Write the columns of the raw tables; log and return what changed since the last night.

    Raises:
        InputError: If a column that the SQL names is of another kind.
    """
    now = raw_schemas.schemas_of(raw)
    (out / raw_schemas.RAW_SCHEMAS).write_text(raw_schemas.written(now))
    nights = newest_runs(run.folder.parent.parent) if run.is_night else iter(())
    earlier = (each for each in nights if each.folder.rpartition("/")[2] < run.folder.name)
    last = next((file for each in earlier if (file := each / raw_schemas.RAW_SCHEMAS).exists()), None)
    changes = raw_schemas.changes(raw_schemas.read(last.read_text()), now) if last else []
    for each in changes:
        _log.warning(f"    since the last night {each}")
    raw_schemas.check_changes(changes, run.settings.source, raw)
    return changes


def _selecting(run: Run, raw: dict[str, DataFrame], changes: Sequence[raw_schemas.Change] = ()) -> "_Select":
    """Return a function that selects a table without erased users, from the raw tables as they are at the call."""
    erased = erased_hashes(run.settings.place)

    def select(table: Table) -> DataFrame:
        try:
            selected = sources.select_table(run.spark, table, run.settings.source, raw)
        except InputError as error:
            raise raw_schemas.explained(error, changes, run.settings.source) from error
        return validation.without_users(selected, erased)

    return select


def _write_sales(run: Run, select: "_Select", out: Place) -> tuple[Cleaned, pa.Table]:
    """Write the usable sales; return what was found, and the windows of all sales, which are few rows."""
    flagged = validation.flag_sales(select(SALES), run.as_of)
    cleaned = _write_usable_rows(SALES, flagged, SALE_RULES + SALE_COPY_RULES, out)
    return cleaned, validation.sale_windows(flagged).toArrow()


def _write_photos(run: Run, select: "_Select", windows: pa.Table, out: Place) -> list[Cleaned]:
    """Write the usable photos; return what was found, nothing for a source without them."""
    if sources.has_table(SALE_IMAGES, run.settings.source):
        flagged = validation.flag_images(select(SALE_IMAGES), run.spark.createDataFrame(windows))
        return [_write_usable_rows(SALE_IMAGES, flagged, IMAGE_RULES + IMAGE_COPY_RULES, out)]
    SALE_IMAGES.write_rows(pd.DataFrame(columns=list(SALE_IMAGES.columns)), out)
    return []


def _counts_of_whole_tables(run: Run, out: Place) -> list[RuleCount]:
    """Return the counts of rules for tables as a whole; a backtest's instant needs no open sale."""
    found = activity(run, out)
    counts = row_rules.counts_of_events(found, run.as_of, run.settings.history.days)
    if run.is_night and SALES.rows(out):
        catalogue = Catalogue.from_table(read_arrow(out / SALES.name))
        counts.append(row_rules.count_of_open_sales(catalogue, run.as_of, run.settings.horizon_hours, found.last))
    return counts


def _warn(counts: list[RuleCount]) -> None:
    """Log what is used as it is, but may spoil what is learnt from it."""
    for count in counts:
        if count.broken and count.rule in _WARNED:
            examples = "; ".join(count.examples)[:_LONGEST_EXAMPLES]
            _log.warning(f"    table {count.table} breaks '{count.rule.name}' ({count.rule.meaning}): {examples}")


def _write_usable_rows(table: Table, flagged: DataFrame, rules: tuple[Rule, ...], out: Place) -> Cleaned:
    """Write a table's usable rows; return the number of rows that break each rule, and these rows."""
    observation = Observation(table.name)
    usable = validation.usable(validation.observed_rules(flagged, rules, observation), rules)
    with readable(table):
        table.write(usable.select(*table.columns), out)
    # If no row was written, Spark may have skipped the observation.
    counts = validation.rule_counts(table.name, rules, flagged, observation if table.rows(out) else None)
    actions = {count.rule.action for count in counts if count.broken}
    aside = validation.set_aside(flagged, rules)
    return Cleaned(
        counts,
        validation.rejected_rows(aside, table) if actions & {SET_ASIDE, NOT_COUNTED} else None,
        validation.rejected_rows(validation.used_despite_rule(flagged, rules), table) if KEPT in actions else None,
    )


def _union_all(rows: DataFrame, others: list[DataFrame | None]) -> DataFrame:
    return reduce(DataFrame.unionByName, [other for other in others if other is not None], rows)


VALIDATE_TABLES = Step(
    "validate_tables",
    validate_tables,
    outputs=(
        *("sales", "sale_images", "events", "users", "rejected_rows"),
        *(RULE_COUNTS, raw_schemas.RAW_SCHEMAS, REJECTED_EVENTS, EVENT_DAYS),
    ),
    depends_on=lambda run: [
        run.as_of,
        sources.fingerprint(run.settings.source, run.settings.place, lambda: run.spark),
        *erased_hashes(run.settings.place),
    ],
    reads=lambda run: run.settings.source.raw.values(),
)

if __name__ == "__main__":
    main(VALIDATE_TABLES)
