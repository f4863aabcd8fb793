"""The sections of a report below its verdict, in notes, charts and tables: the same for HTML and markdown."""

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
from recsys.reports.experiment.wording import TOO_FEW, Finding, finding, instant, level
from recsys.reports.page import ReportTable
from recsys.reports.wording import percent
from recsys.wording import plural

_CORRECTIONS = {"holm": "Holm", "benjamini_hochberg": "Benjamini–Hochberg", "none": "none"}
_MARKS = "Disc: better, or the guardrail holds. Diamond: worse, or the guardrail is violated. Grey: not shown."


@dataclass(frozen=True)
class Section(page.Section):
    """A part of the report under its own title."""

    has_differences: bool = False
    """Whether the section is greyed out where the verdict is invalid."""


def sections(result: Result) -> list[Section]:
    """Return the sections of the report in order."""
    return [
        _design_section(result),
        *_differences_section(result),
        *_daily_section(result),
        *_segments_section(result),
        *_triggered_section(result),
        *_interleaving_section(result),
        _health_section(result),
    ]


def _design_section(result: Result) -> Section:
    window, conventions = result.window, result.conventions
    users = sum(result.health.users.values())
    notes = (
        f"{plural(users, 'user')} entered from {instant(window.start)} to {instant(window.end)}. Events within"
        f" {plural(conventions.attribution_days, 'day')} of a user's first page are counted.",
        f"Data: events before {instant(window.as_of)}; the last day with an event is {window.last_day or 'unknown'}.",
    )
    variants = tuple((each.key, each.serves, percent(each.weight)) for each in result.variants)
    table = ReportTable("Variants; the first is control", ("Variant", "Serves", "Weight"), variants, labels=2)
    return Section("What was compared", notes, tables=(table,))


def _differences_section(result: Result) -> Iterator[Section]:
    if not result.comparisons:
        return
    alpha = result.conventions.alpha
    notes = (
        f"A difference is variant minus control, with its {level(alpha)} interval. The verdict rests on the primary"
        " metrics and the guardrails.",
        *_difference_notes(result),
    )
    chart = _forest(result.comparisons, alpha, "Differences by metric.")
    yield Section("What differs", notes, (chart,), tables_of_comparisons(result.comparisons, alpha), True)


def _difference_notes(result: Result) -> Iterator[str]:
    alpha = result.conventions.alpha
    scarce = dict.fromkeys(each.metric for each in result.comparisons if finding(each, alpha) == TOO_FEW)
    if scarce:
        yield (
            f"Warning: too few outcomes, or too skewed ones, to tell {', '.join(scarce)}. Their intervals and p values"
            " cannot be relied on, however narrow they are, and nothing is decided by them."
        )
    if not result.window.ended:
        yield "Outcomes are incomplete, so a finding may change; for now, decide by the always-valid interval only."
    if any(each.cuped for each in result.comparisons):
        yield "A CUPED-adjusted difference is not exactly treatment minus control: it is adjusted for the users' past."
    n_primary = sum(each.role == "primary" for each in result.comparisons)
    if n_primary > 1 and result.conventions.multiplicity != "none":
        name = _CORRECTIONS[result.conventions.multiplicity]
        yield f"The p values of the {n_primary} primary comparisons are adjusted by the method of {name}."


def _forest(comparisons: Sequence[Comparison], alpha: float, caption: str) -> Chart:
    """Draw one panel per metric, with one row per variant."""
    panels = []
    for _, group in groupby(comparisons, key=lambda each: (each.role, each.metric)):
        rows = list(group)
        first = rows[0]
        drawn = tuple(Row(each.variant, each.decisive, finding(each, alpha)) for each in rows)
        title = f"{first.metric} ({first.role})"
        panels.append(Panel(title, first.direction, drawn, first.guard.margin if first.guard else None))
    dashed = " Dashed: a guardrail's margin." if any(panel.margin is not None for panel in panels) else ""
    return forest(panels, f"{caption} {_MARKS}{dashed}")


def _daily_section(result: Result) -> Iterator[Section]:
    primary = {each.metric for each in result.comparisons if each.role == "primary"}
    looks = [look for look in result.daily if look.metric in primary]
    groups = [list(group) for _, group in groupby(looks, key=lambda look: (look.metric, look.variant))]
    if groups:
        note = (
            "Each point is the difference by all events until the end of that day. To stop on a daily look, use the"
            " always-valid interval; the other interval is valid for a single, planned look. Days with too few outcomes"
            " to tell are not drawn."
        )
        alpha = result.conventions.alpha
        charts = tuple(
            daily(told, alpha, f"{told[0].metric} of {told[0].variant}, day by day.")
            for group in groups
            if (told := [look for look in group if look.can_tell])
        )
        yield Section("Day by day", (note,), charts, tuple(map(table_of_days, groups)), True)


def _segments_section(result: Result) -> Iterator[Section]:
    if not result.segments:
        return
    note = "For exploration only: these intervals are not corrected for multiplicity, so some exclude 0 by chance."
    alpha = result.conventions.alpha
    primary = [each for each in result.comparisons if each.role == "primary"]
    groups = [("all users", primary), *((segment.name, segment.comparisons) for segment in result.segments)]
    panels = [_panel_of_segments(each, groups, alpha) for each in primary]
    table = table_of_segments(result.segments, alpha)
    chart = forest(panels, f"Differences by segment. {_MARKS}")
    yield Section("Segments", (note,), (chart,), (table,), True)


def _panel_of_segments(overall: Comparison, groups: Iterable[tuple[str, Sequence[Comparison]]], alpha: float) -> Panel:
    rows = tuple(
        Row(name, each.decisive, finding(each, alpha))
        for name, comparisons in groups
        for each in comparisons
        if (each.metric, each.variant) == (overall.metric, overall.variant)
    )
    return Panel(f"{overall.metric} of {overall.variant}", overall.direction, rows)


def _triggered_section(result: Result) -> Iterator[Section]:
    found = result.triggered
    if found is None:
        return
    users = ", ".join(f"{n:,} of {variant}" for variant, n in found.users.items())
    notes = (
        f"{percent(found.share)} of the users ({users}) saw at least one page that differs between variants. The other"
        " users can differ only by chance.",
        "These p values are not corrected for multiplicity; the verdict rests on all users.",
    )
    chart = _forest(found.comparisons, result.conventions.alpha, "Differences of these users.")
    tables = tables_of_comparisons(found.comparisons, result.conventions.alpha)
    yield Section("Users who saw a difference", notes, (chart,), tables, True)


def _interleaving_section(result: Result) -> Iterator[Section]:
    found = result.interleaving
    if found is None:
        return
    note = (
        f"Each page of {plural(found.users, 'user')} mixes the sales of both variants. A purchase counts for the"
        " variant whose policy placed the sale; the comparison is within users."
    )
    row = Row(found.variant, found.difference, _preference_finding(found, result.conventions.alpha))
    panel = Panel("purchases per user", "higher", (row,))
    chart = forest([panel], f"Purchases from {found.variant} minus control. {_MARKS}")
    yield Section("Purchases by variant", (note,), (chart,), tables_of_preference(found), True)


def _preference_finding(found: Interleaving, alpha: float) -> Finding:
    if found.difference is None:
        return "unknown"
    if not found.can_tell:
        return TOO_FEW
    if found.difference.p > alpha:
        return "not shown"
    return "better" if found.difference.value > 0 else "worse"


def _health_section(result: Result) -> Section:
    health = result.health
    tables = (
        table_of_checks(health, result.conventions.srm_alpha),
        table_of_users(result),
        table_of_pages(health),
        *tables_of_origins(health),
    )
    return Section("Health", health.warnings or ("No irregularity was found.",), tables=tables)
