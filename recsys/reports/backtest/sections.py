"""Sections on policies: their metrics, their paired differences, the ablation, and metrics by slice."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys.meta_model import META
from recsys.metrics import Estimate
from recsys.reports import page
from recsys.reports.backtest.charts import MOST_SERIES, Row, dots
from recsys.reports.backtest.wording import (
    NDCG,
    difference,
    estimate_of,
    finding,
    format_difference,
    format_metric,
    join_names,
    policies_by_ndcg,
    single_recommenders,
)
from recsys.reports.charts import Chart
from recsys.reports.page import ReportTable
from recsys.reports.wording import PRINTED_METRICS, UNKNOWN
from recsys.wording import plural

_VARIETY = ("coverage", "gini", "novelty")
_BASELINE = "popularity"
_COLD = {"history length": ("0", "new users"), "sale age": (None, "youngest")}
"""The cold-start row of a slicing, None for the first, and its name."""
_COLD_SUBJECTS = {"history length": "New users", "sale age": "Youngest sales"}


@dataclass(frozen=True)
class Cell:
    """The difference of two policies, without its interval."""

    text: str
    kind: str
    """'better', 'worse' or 'none'; 'self' on the diagonal."""


@dataclass(frozen=True)
class Matrix:
    """The differences between all pairs of policies."""

    policies: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Section(page.Section):
    """A part of the report under its own title."""

    matrix: Matrix | None = None


def policies(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the section with the metrics of each policy and how much of the shop it shows."""
    names, singles = policies_by_ndcg(result), single_recommenders(result)
    oracle = estimate_of((result.get("oracle") or {}).get(NDCG))
    rows = [Row("oracle", (None, oracle, None))] if oracle is not None else []
    for name in names:
        found = estimate_of(result["policies"][name][NDCG])
        rows.append(Row(name, (None, None, found) if name in singles else (found, None, None)))
    caption = "ndcg@10 of each policy with its 95% interval, best first."
    note = (
        "All policies ranked the same sales for the same users, by what was known at midnight. Two policies whose"
        " intervals overlap may still differ: the next section compares them page by page."
    )
    tables = [_metrics_table(result, names, oracle), *_variety_table(result, names)]
    yield Section(
        "Policies", (note,), (dots(rows, ("meta-model", "oracle", "single recommender"), NDCG, caption),), tuple(tables)
    )


def _metrics_table(result: Mapping[str, Any], names: Sequence[str], oracle: Estimate | None) -> ReportTable:
    measured = result["policies"]
    rows = [(name, *(format_metric(estimate_of(measured[name].get(key))) for key in PRINTED_METRICS)) for name in names]
    if oracle is not None:
        rows.insert(0, ("oracle", format_metric(oracle), *(UNKNOWN,) * (len(PRINTED_METRICS) - 1)))
    return ReportTable("Ranking metrics of each policy", ("Policy", *PRINTED_METRICS), tuple(rows))


def _variety_table(result: Mapping[str, Any], names: Sequence[str]) -> Iterator[ReportTable]:
    known = [name for name in names if any(result["policies"][name].get(key) is not None for key in _VARIETY)]
    if known:
        rows = tuple(_variety_cells(name, result["policies"][name]) for name in known)
        yield ReportTable("Variety of what each policy shows", ("Policy", "Coverage", "Gini", "Novelty, bits"), rows)


def _variety_cells(name: str, measured: Mapping[str, Any]) -> tuple[str, ...]:
    coverage, gini, novelty = (measured.get(key) for key in _VARIETY)
    cells = ((coverage, ".1%"), (gini, ".3f"), (novelty, ".2f"))
    return (name, *(UNKNOWN if value is None else format(value, digits) for value, digits in cells))


def differences(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the section with the paired differences of all policies."""
    names = policies_by_ndcg(result)
    found = [(one, other, difference(result, one, other)) for n, one in enumerate(names) for other in names[n + 1 :]]
    pairs = [(one, other, each) for one, other, each in found if each is not None]
    if not pairs and not result.get("differences"):
        return
    notes = (
        "The matrix shows a row's ndcg@10 minus a column's, on the same pages. ▲: the row is better; ▼: the row is"
        " worse; no mark: the interval contains 0, so no difference is shown.",
    )
    rows = tuple((one, other, format_difference(each), finding(each)) for one, other, each in pairs)
    every = ReportTable(
        "All pairs of policies: ndcg@10 with intervals", ("One", "Other", "One minus other", "Finding"), rows, 2, True
    )
    tables = (*_named_table(result.get("differences") or {}), *([every] if pairs else []))
    matrix = _matrix(result, names) if pairs else None
    yield Section("Policies against each other", notes if pairs else (), tables=tables, matrix=matrix)


def _named_table(found: Mapping[str, Any]) -> Iterator[ReportTable]:
    if found:
        metrics = [metric for metric in PRINTED_METRICS if any(metric in each for each in found.values())]
        rows = tuple(
            (pair, *(format_difference(estimate_of(each.get(metric))) for metric in metrics))
            for pair, each in found.items()
        )
        yield ReportTable("Named comparisons, all metrics", ("Difference", *metrics), rows)


def _matrix(result: Mapping[str, Any], names: Sequence[str]) -> Matrix:
    return Matrix(tuple(names), tuple(tuple(_cell(result, one, other) for other in names) for one in names))


def _cell(result: Mapping[str, Any], one: str, other: str) -> Cell:
    found = difference(result, one, other)
    if found is None:
        return Cell("" if one == other else UNKNOWN, "self")
    kind = {"better": "better", "worse": "worse"}.get(finding(found), "none")
    mark = {"better": "▲ ", "worse": "▼ "}.get(kind, "")
    return Cell(f"{mark}{found.value:+.3f}", kind)


def ablation(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the section with each recommender's ndcg@10 alone, gain when added, and loss when removed."""
    rows = [
        (row["feature"], *(estimate_of(row.get(key)) for key in ("alone", "added", "removed")))
        for row in result.get("ablation") or ()
    ]
    if not rows:
        return
    table = ReportTable(
        "ndcg@10 by recommender",
        ("Recommender", "Alone", "Added to popularity", "Lost without it", "Needed"),
        tuple(
            (name, format_metric(single), format_difference(added), format_difference(removed), _needed(removed))
            for name, single, added, removed in rows
        ),
    )
    charts = (
        dots(
            [Row(name, (single,)) for name, single, _, _ in rows], ("alone",), NDCG, "Ranking by the recommender alone."
        ),
        dots(
            [Row(name, (removed, added)) for name, _, added, removed in rows],
            ("lost without it", "added to popularity"),
            f"difference in {NDCG}",
            "What the meta-model loses without the recommender, and what the recommender adds to popularity.",
            zero=True,
        ),
    )
    yield Section("What each recommender contributes", tuple(_ablation_notes(result)), charts, (table,))


def _ablation_notes(result: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "Alone: ranking by the recommender itself. Added to popularity: a meta-model over popularity and it, minus one"
        " over popularity. Lost without it: the meta-model over all recommenders, minus one trained without it."
    )
    yield ablation_finding(result)


def ablation_finding(result: Mapping[str, Any]) -> str:
    """Name the recommenders whose removal shows no loss of ndcg@10, and those whose removal is a gain."""
    found = {row["feature"]: estimate_of(row.get("removed")) for row in result["ablation"]}
    spare = [name for name, removed in found.items() if removed is not None and removed.low <= 0 <= removed.high]
    worse = [name for name, removed in found.items() if removed is not None and removed.high < 0]
    sentences = []
    if spare:
        sentences.append(
            f"Removing {join_names(spare)}, one at a time, shows no loss: the interval of the loss contains 0."
        )
    if worse:
        sentences.append(f"The meta-model is better without {join_names(worse)}.")
    return " ".join(sentences) or "Every recommender is needed: the meta-model is worse without any one of them."


def _needed(removed: Estimate | None) -> str:
    if removed is None:
        return UNKNOWN
    return {"better": "yes", "worse": "better without", "no difference shown": "not shown"}[finding(removed)]


def slices(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield a section per slicing of pages by user and of purchases by sale."""
    for title, rows in (result.get("slices") or {}).items():
        if len(rows) < 2:  # all pages or purchases are in one slice, which says nothing new
            continue
        metric = (result.get("slice_metrics") or {}).get(title, NDCG)
        named = [(_slice_name(title, index, row["name"]), row) for index, row in enumerate(rows)]
        present = [name for name in policies_by_ndcg(result) if any(name in row["policies"] for row in rows)]
        yield Section(
            f"By {title}",
            tuple(filter(None, [cold_start_finding(result, title)])),
            (_slice_chart(title, metric, named, _drawn_policies(result, present)),),
            (_slice_table(metric, named, present),),
        )


def _drawn_policies(result: Mapping[str, Any], present: Sequence[str]) -> list[str]:
    """Return the policies in a slice's plot: the meta-model, the baseline, and the best other recommenders."""
    singles = [name for name in single_recommenders(result) if name in present]
    chosen = [META, *(name for name in (_BASELINE,) if name in singles), *singles]
    return [name for name in dict.fromkeys(chosen) if name in present][:MOST_SERIES]


def _slice_chart(title: str, metric: str, named: Sequence[tuple[str, Mapping]], drawn: Sequence[str]) -> Chart:
    rows = [Row(name, tuple(estimate_of(row["policies"].get(policy)) for policy in drawn)) for name, row in named]
    return dots(rows, drawn, metric, f"{metric} by {title}, with 95% intervals.")


def _slice_table(metric: str, named: Sequence[tuple[str, Mapping]], present: Sequence[str]) -> ReportTable:
    counted = "pages" if "pages" in named[0][1] else "purchases"
    rows = tuple(
        (name, f"{row[counted]:,}", *(format_metric(estimate_of(row["policies"].get(policy))) for policy in present))
        for name, row in named
    )
    return ReportTable(metric, ("", counted.capitalize(), *present), rows)


def _slice_name(title: str, index: int, name: str) -> str:
    return f"{name} ({_COLD[title][1]})" if _is_cold_start(title, index, name) else name


def _is_cold_start(title: str, index: int, name: str) -> bool:
    if title not in _COLD:
        return False
    cold_name = _COLD[title][0]
    return index == 0 if cold_name is None else name == cold_name


def cold_start_finding(result: Mapping[str, Any], title: str) -> str:
    """Summarise how the meta-model ranks for new users or the youngest sales; empty if there is no other slice."""
    rows = (result.get("slices") or {}).get(title) or ()
    for index, row in enumerate(rows if len(rows) > 1 else ()):
        found = estimate_of(row["policies"].get(META))
        if _is_cold_start(title, index, row["name"]) and found is not None:
            metric = (result.get("slice_metrics") or {}).get(title, NDCG)
            cases = plural(row["pages"], "page") if "pages" in row else plural(row["purchases"], "purchase")
            best = _best_single(row["policies"], single_recommenders(result))
            return f"{_COLD_SUBJECTS[title]} ({cases}): {metric} of meta {format_metric(found)}{best}."
    return ""


def _best_single(measured: Mapping[str, Any], singles: Sequence[str]) -> str:
    known = [(name, found) for name in singles if (found := estimate_of(measured.get(name))) is not None]
    if not known:
        return ""
    name, found = max(known, key=lambda pair: pair[1].value)
    return f"; of {name}, the best single recommender there, {format_metric(found)}"
