"""The report of what a shop's tables hold, for whoever configures it: one HTML file that opens from disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.data_profile.advice import Advice
from recsys.data_profile.profile import DataProfile
from recsys.instants import format_instant
from recsys.reports.charts import Chart
from recsys.reports.page import ReportTable, Section, render
from recsys.reports.profile.charts import by_day, by_hour
from recsys.reports.profile.wording import Facts, facts
from recsys.storage.local import write_whole
from recsys.wording import plural

_TERMS = {
    "open": "A sale is open from opens_at to before closes_at; an event is of an open sale if it is in that window.",
    "quantile": "10% of the sales or users have at most this value, half of them at most the median, and so on.",
    "training days": "The days before as_of whose purchases the meta-model is trained on (meta_model.days).",
    "towers": "A learned recommender; it is trained on the days before the training days (recommenders.towers).",
}


@dataclass(frozen=True)
class Part:
    """A group of facts with its plots."""

    title: str
    facts: Facts
    section: Section


def write_report(
    profile: DataProfile, advice: Advice, rule_counts: Sequence[Mapping[str, Any]], file: Path, name: str
) -> None:
    """Write the report atomically, replacing the previous one.

    Args:
        profile: Of the validated tables.
        advice: What it suggests.
        rule_counts: As in the file `rule_counts.json` of the night; those that no row breaks are not shown.
        file: Its folder is created if missing.
        name: Of the shop.
    """
    plots = {"Events": _plots_of_events(profile), "Sales": _plots_of_sales(profile)}
    text = render(
        __package__,
        name=name,
        as_of=format_instant(profile.as_of),
        headline=f"{plural(profile.events, 'event')} of {plural(profile.users, 'user')}",
        meaning=f"{plural(profile.sales, 'sale')}, {plural(len(profile.days), 'day')} of events.",
        cautions=advice.cautions,
        proposals=advice.proposals,
        shortages=advice.shortages,
        parts=[
            Part(title, found, Section(title, charts=plots.get(title, ()))) for title, found in facts(profile).items()
        ],
        rules=_rules(rule_counts),
        terms=_TERMS,
    )
    write_whole(file, text)


def _plots_of_events(profile: DataProfile) -> tuple[Chart, ...]:
    days = profile.days["day"].dt.tz_localize(None).tolist()
    kinds = [name for name in ("visits", "purchases") if profile.days[name].any()]
    plots = [by_day(days, profile.days[name].tolist(), name.capitalize()) for name in kinds]
    if profile.has_times:
        plots += [by_hour(profile.hours[name].tolist(), name.capitalize()) for name in kinds]
    return tuple(plots)


def _plots_of_sales(profile: DataProfile) -> tuple[Chart, ...]:
    if not len(profile.days):
        return ()
    days = profile.days["day"].dt.tz_localize(None).tolist()
    return (
        by_day(days, profile.days["open_sales"].tolist(), "Open sales"),
        by_hour(profile.hours["open_sales"].tolist(), "Open sales"),
    )


def _rules(rule_counts: Sequence[Mapping[str, Any]]) -> Section:
    rows = tuple(
        (each["table"], each["rule"]["name"], each["rule"]["meaning"], f"{each['rows']:,}", f"{each['broken']:,}")
        for each in rule_counts
        if each["broken"]
    )
    columns = ("table", "rule", "meaning", "rows", "that break it")
    return Section("Rules", tables=(ReportTable("Rules that rows break", columns, rows, labels=3),) if rows else ())
