"""The reference of tables and rules, written from their definitions: `python -m recsys.pipeline.table_reference`."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pyspark.sql.types import ArrayType, DataType, MapType

from recsys.pipeline.row_rules import (
    EVENT_RULES,
    EVENT_UNIQUE,
    EVENTS_RECENT,
    IMAGE_COPY_RULES,
    IMAGE_RULES,
    SALE_COPY_RULES,
    SALE_OPEN,
    SALE_RULES,
    USER_COPY_RULES,
    USER_ID_USUAL,
    USER_RULES,
)
from recsys.tables import experiments, logs, night
from recsys.tables.night import Table

PAGE = Path("docs/tables.md")


class Group(NamedTuple):
    """Tables that are written by one job, and what people need to know of all of them."""

    title: str
    text: str
    tables: tuple[Table, ...]


_HEAD = """# Tables

Every table that a night, a backtest, the service or an A/B test writes, for whoever reads or joins them: what one row
is, each column with its type and unit. All are Parquet, below the `folder` of the configuration. Instants are UTC, and
windows of time exclude their end. Positions of sales count from 0 in ascending order of `sale_id`.

This page is written from the code: `python -m recsys.pipeline.table_reference`.

## Read them

In a notebook by `shop.table(NAME)`, `shop.sales()` and `shop.events()` ([In a notebook](notebook.md)), or with whatever
reads Parquet. How many purchases did the pages of each policy lead to?

```python
import pandas as pd

pages = pd.read_parquet("var/demo/exposures_compacted")
events = pd.read_parquet("var/demo/recorded_events_compacted")
bought = events[events.kind == "purchase"].merge(pages, left_on="attribution_token", right_on="request_id")
print(bought.groupby(["policy", "model_version"]).size())
```

| tables | join by |
|---|---|
| pages and events | `request_id` = `attribution_token` |
| a page and its sales | each of `sale_ids` = `sales.sale_id` |
| an experiment's users and their pages | `user_id`, where `experiment` and `phase` are those of the experiment |
| rejected rows and the rules that they break | `rule`, see [Rules for rows](#rules-for-rows) |

## The folder

| below `folder` | what it is |
|---|---|
| `nights/AS_OF/` | one night, such as `20260301T000000Z`: `run.log`, and what follows |
| `nights/AS_OF/data/STEP-XXXXXXXX/TABLE/` | what a step wrote: Parquet parts, and `_parts.json` with those that count |
| `nights/AS_OF/journal/NUMBER.json` | what became true, in order: which `data` each step has; see `Shop(…).table` |
| `refreshes/AS_OF/` | the same of `recsys refresh`, for the sales of the day |
| `backtests/FROM-TO/` | one backtest: its tables, `report.html`, `run.log` |
| `snapshots/` | what the service reads; `current`, at a URL the last of `published/`, says what is in use |
| `night_checks/AS_OF.json` | what each night was checked for: rejected rows, coverage, drift, ndcg@10, problems |
| `photos/`, `themes/`, `towers/` | kept for the next night: outputs of networks, theme models, learned weights |
| `mlflow.db`, `mlartifacts/`, `models/log/` | versions of the model, and the log of promotions |
| `exposures/`, `recorded_events/` | log files of the service, JSON lines, until a night makes tables of them |
| `exposures_compacted/`, `recorded_events_compacted/` | tables of them by day; `_parts-NUMBER.json` at a URL |
| `experiments/` | files in force, pinned versions, results by experiment and phase |
| `labels/`, `taggers/` | labels of the shop's own photos, and taggers that were trained on them |
| `serving/` | state of a running service: closed sales, sessions |
"""

GROUPS = (
    Group(
        "What a shop's SQL selects",
        "The SQL of `source.sql` selects these columns from the raw tables ([Raw tables](raw_tables.md)); a night "
        "keeps the validated rows in its folder.",
        (night.SALES, night.EVENTS, night.USERS, night.SALE_IMAGES, night.REJECTED_ROWS),
    ),
    Group(
        "Photos of a night",
        "See [Photos](photos.md).",
        (
            night.IMAGE_TAGS,
            night.REJECTED_IMAGES,
            night.SALE_PHOTO_LABELS,
            night.IMAGE_THEMES,
            night.SALE_THEMES,
        ),
    ),
    Group(
        "Learning and ranking of a night",
        "Made for the jobs that follow: lists and positions instead of rows and ids. A backtest has the first three.",
        (
            night.USER_HISTORIES,
            night.FITTED_RECOMMENDERS,
            night.TRAINING_EXAMPLES,
            night.RANKINGS,
            night.SEGMENT_RANKINGS,
        ),
    ),
    Group(
        "A backtest",
        "`peer_pages` (`--peers`) and `oracle_pages` (the true taste, which a generated shop alone has) have the "
        "columns of `page_metrics`, `window_examples` those of `training_examples`, for the days that are measured.",
        (night.PAGE_METRICS, night.KNOWN_USERS),
    ),
    Group(
        "The service's logs",
        "A night writes them, or `recsys exposures`, each record once, in one folder per day. Lines that are no record "
        "are in the tables of rejected ones.",
        (
            logs.COMPACTED_EXPOSURES,
            logs.COMPACTED_EVENTS,
            logs.EXPOSURES.rejected,
            logs.RECORDED_EVENTS.rejected,
        ),
    ),
    Group(
        "An A/B test",
        "`recsys experiment analyze` writes them to `experiments/KEY-PHASE/`, beside `result.json` and the reports.",
        (experiments.EXPERIMENT_USERS, experiments.EXPERIMENT_SUMS),
    ),
)


RULES = {
    night.SALES.name: (*SALE_RULES, *SALE_COPY_RULES, SALE_OPEN),
    night.EVENTS.name: (*EVENT_RULES, EVENT_UNIQUE, USER_ID_USUAL, EVENTS_RECENT),
    night.USERS.name: (*USER_RULES, *USER_COPY_RULES),
    night.SALE_IMAGES.name: (*IMAGE_RULES, *IMAGE_COPY_RULES),
}
"""The rules for the rows of each table, as `recsys validate` prints them."""

_RULES_TEXT = """## Rules for rows

What `recsys validate` checks, and what happens to a row that breaks a rule ([Raw tables](raw_tables.md) says why). The
first rule that a row breaks counts.

| table | rule | what must be true | otherwise |
|---|---|---|---|"""


def reference() -> str:
    """Return the page in Markdown: a section per group with the columns of each table, and the rules for rows."""
    rules = [
        f"| `{table}` | `{rule.name}` | {rule.meaning.replace('|', '/')} | {rule.action} |"
        for table, of_table in RULES.items()
        for rule in of_table
    ]
    return "\n".join([_HEAD, *_lines(GROUPS), _RULES_TEXT, *rules]) + "\n"


def _lines(groups: Iterable[Group]) -> Iterator[str]:
    for group in groups:
        yield from (f"## {group.title}", "", group.text, "")
        for table in group.tables:
            yield from (f"### {table.name}", "", f"{_sentence(table.grain)}", "")
            yield from ("| column | type | meaning |", "|---|---|---|")
            for name, (kind, meaning) in table.described.items():
                may_lack = " May be missing from a source." if name in table.optional else ""
                yield f"| `{name}` | {_type(kind)} | {meaning}{may_lack} |"
            yield ""
            if table.further:
                yield from (f"Further columns: {table.further}", "")


def _type(kind: DataType) -> str:
    if isinstance(kind, ArrayType):
        return f"list of {_type(kind.elementType)}"
    if isinstance(kind, MapType):
        return f"map of {_type(kind.keyType)} to {_type(kind.valueType)}"
    return kind.simpleString()


def _sentence(grain: str) -> str:
    return f"{grain[0].upper()}{grain[1:]}."


if __name__ == "__main__":
    PAGE.write_text(reference(), "utf-8")
