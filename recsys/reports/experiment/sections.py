"""What a report shows below its verdict, whatever it is written in: sections of notes, charts and tables."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from recsys.experiments.analysis.results import Comparison, Interleaving, Result
from recsys.reports import page
from recsys.reports.charts import Chart
from recsys.reports.experiment.charts import Panel, Row, daily, forest
from recsys.reports.experiment.tables import (
    table_of_checks,
    table_of_days,
    table_of_pages,
    table_of_segments,
    table_of_users,
    tables_of_comparisons,
    tables_of_origins,
    tables_of_preference,
)
from recsys.reports.experiment.wording import Finding, finding, instant, level
from recsys.reports.page import Table
from recsys.reports.wording import percent

_CORRECTIONS = {"holm": "Holm", "benjamini_hochberg": "Benjamini–Hochberg", "none": "none"}
_MARKS = "Disc: better, or the guardrail holds; diamond: worse, or violated; grey: not shown."


@dataclass(frozen=True)
class Section(page.Section):
    """A part of the report under one title."""

    tells_differences: bool = False
    """Not to be looked at where the verdict is invalid."""


def sections(result: Result) -> list[Section]:
    """Return the parts of the report, in the order in which they are read."""
    return [
        _compared(result),
        *_metrics(result),
        *_days(result),
        *_segments(result),
        *_triggered(result),
        *_interleaving(result),
        _health(result),
    ]


def _compared(result: Result) -> Section:
    window, conventions = result.window, result.conventions
    users = sum(result.health.users.values())
    notes = (
        f"{users:,} users were taken in from {instant(window.start)} to {instant(window.end)}. What each of them"
        f" did in the {conventions.attribution_days:g} days from his first page on counts.",
        f"Known is what happened before {instant(window.as_of)}, the last day with any event:"
        f" {window.last_day or 'none'}.",
    )
    variants = tuple((each.key, each.serves, percent(each.weight)) for each in result.variants)
    table = Table("Variants; the first is control", ("Variant", "Serves", "Weight"), variants, labels=2)
    return Section("What was compared", notes, tables=(table,))


def _metrics(result: Result) -> Iterator[Section]:
    if not result.comparisons:
        return
    alpha = result.conventions.alpha
    notes = (
        f"A difference is variant minus control, with its {level(alpha)} interval. The verdict rests on the primary"
        " metrics and the guardrails.",
        *_cautions(result),
    )
    chart = _forest(result.comparisons, alpha, "Differences by metric.")
    yield Section("What differs", notes, (chart,), tables_of_comparisons(result.comparisons, alpha), True)


def _cautions(result: Result) -> Iterator[str]:
    if not result.window.ended:
        yield "Outcomes are still to come, so a finding may turn; until then only the always-valid interval counts."
    if any(each.cuped for each in result.comparisons):
        yield "A difference with CUPED is a little off treatment minus control: it leaves out what the past told."
    n_primary = sum(each.role == "primary" for each in result.comparisons)
    if n_primary > 1 and result.conventions.multiplicity != "none":
        name = _CORRECTIONS[result.conventions.multiplicity]
        yield f"There are {n_primary} primary comparisons, so their p values are adjusted by the method of {name}."


def _forest(comparisons: Sequence[Comparison], alpha: float, caption: str) -> Chart:
    """Draw a panel a metric and a row a variant."""
    panels = []
    for _, group in groupby(comparisons, key=lambda each: (each.role, each.metric)):
        rows = list(group)
        first = rows[0]
        drawn = tuple(Row(each.variant, each.decisive, finding(each, alpha)) for each in rows)
        title = f"{first.metric} ({first.role})"
        panels.append(Panel(title, first.direction, drawn, first.guard.margin if first.guard else None))
    dashed = " Dashed: a guardrail's margin." if any(panel.margin is not None for panel in panels) else ""
    return forest(panels, f"{caption} {_MARKS}{dashed}")


def _days(result: Result) -> Iterator[Section]:
    primary = {each.metric for each in result.comparisons if each.role == "primary"}
    looks = [look for look in result.daily if look.metric in primary]
    groups = [list(group) for _, group in groupby(looks, key=lambda look: (look.metric, look.variant))]
    if groups:
        note = (
            "Each point is everything that was known at the end of that day. Who looks every day may stop by the"
            " always-valid interval alone; the other one holds for a single look that was planned."
        )
        alpha = result.conventions.alpha
        charts = tuple(daily(group, alpha, f"{group[0].metric} of {group[0].variant}, day by day.") for group in groups)
        yield Section("Day by day", (note,), charts, tuple(map(table_of_days, groups)), True)


def _segments(result: Result) -> Iterator[Section]:
    if not result.segments:
        return
    note = (
        "For understanding, never for a verdict: with so many intervals, uncorrected, some leave out 0 by chance alone."
    )
    alpha = result.conventions.alpha
    of_all = [each for each in result.comparisons if each.role == "primary"]
    named = [("all users", of_all), *((segment.name, segment.comparisons) for segment in result.segments)]
    panels = [_panel_of_segments(each, named, alpha) for each in of_all]
    table = table_of_segments(result.segments, alpha)
    chart = forest(panels, f"Differences by segment. {_MARKS}")
    yield Section("Segments", (note,), (chart,), (table,), True)


def _panel_of_segments(of_all: Comparison, named: Iterable[tuple[str, Sequence[Comparison]]], alpha: float) -> Panel:
    rows = tuple(
        Row(name, each.decisive, finding(each, alpha))
        for name, found in named
        for each in found
        if (each.metric, each.variant) == (of_all.metric, of_all.variant)
    )
    return Panel(f"{of_all.metric} of {of_all.variant}", of_all.direction, rows)


def _triggered(result: Result) -> Iterator[Section]:
    found = result.triggered
    if found is None:
        return
    users = ", ".join(f"{n:,} of {variant}" for variant, n in found.users.items())
    notes = (
        f"{percent(found.share)} of the users ({users}) saw at least one page that another variant would have made"
        " differently. The others cannot differ but by chance.",
        "Uncorrected; the verdict rests on all users.",
    )
    chart = _forest(found.comparisons, result.conventions.alpha, "Differences of these users.")
    tables = tables_of_comparisons(found.comparisons, result.conventions.alpha)
    yield Section("Users who saw a difference", notes, (chart,), tables, True)


def _interleaving(result: Result) -> Iterator[Section]:
    found = result.interleaving
    if found is None:
        return
    note = (
        f"Each page of {found.users:,} users mixes the sales of both variants. A purchase counts for the variant that"
        " put the sale there; every user is compared with himself."
    )
    row = Row(found.variant, found.difference, _preference(found, result.conventions.alpha))
    panel = Panel("purchases a user", "higher", (row,))
    chart = forest([panel], f"Purchases from {found.variant} minus control. {_MARKS}")
    yield Section("Whose sales were bought", (note,), (chart,), tables_of_preference(found), True)


def _preference(found: Interleaving, alpha: float) -> Finding:
    if found.difference is None:
        return "unknown"
    if found.difference.p > alpha:
        return "not shown"
    return "better" if found.difference.value > 0 else "worse"


def _health(result: Result) -> Section:
    health = result.health
    tables = (
        table_of_checks(health, result.conventions.srm_alpha),
        table_of_users(result),
        table_of_pages(health),
        *tables_of_origins(health),
    )
    return Section("Health", health.warnings or ("Nothing odd was found.",), tables=tables)
