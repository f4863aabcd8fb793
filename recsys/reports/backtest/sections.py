"""What a backtest measured of policies: all of them, every two, each recommender's part, each kind of user and sale."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys.meta_model import META
from recsys.metrics import RANKING_METRICS, Estimate
from recsys.reports import page
from recsys.reports.backtest.charts import MOST_SERIES, Row, dots
from recsys.reports.backtest.wording import (
    NDCG,
    alone,
    difference,
    estimate_of,
    listed,
    plain,
    ranked,
    shown,
    signed,
)
from recsys.reports.charts import Chart
from recsys.reports.page import Table
from recsys.reports.wording import UNKNOWN

_SPREAD = ("coverage", "gini", "novelty")
_BASELINE = "popularity"
_COLD = {"history length": ("0", "new users"), "sale age": (None, "youngest")}
"""The row that is cold, None for the first, and what it holds."""
_COLD_IN_WORDS = {"history length": "New users", "sale age": "Youngest sales"}


@dataclass(frozen=True)
class Cell:
    """The difference of two policies, in short."""

    text: str
    kind: str
    """better, worse, none; or self."""


@dataclass(frozen=True)
class Matrix:
    """Every policy against every other."""

    policies: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Section(page.Section):
    """A part of the report under one title."""

    matrix: Matrix | None = None


def policies(result: Mapping[str, Any]) -> Iterator[Section]:
    """Return how each policy does, and what it shows."""
    names, singles = ranked(result), alone(result)
    oracle = estimate_of((result.get("oracle") or {}).get(NDCG))
    rows = [Row("oracle", (None, oracle, None))] if oracle is not None else []
    for name in names:
        found = estimate_of(result["policies"][name][NDCG])
        rows.append(Row(name, (None, None, found) if name in singles else (found, None, None)))
    caption = "ndcg@10 of each policy with its 95% interval, best first."
    note = (
        "Every policy ranked the same sales for the same users, by what was known at midnight. Intervals that overlap"
        " do not mean that two policies are alike: the next section compares them page by page."
    )
    tables = [_metrics(result, names, oracle), *_shares(result, names)]
    yield Section("Policies", (note,), (dots(rows, ("a mix", "oracle", "one alone"), NDCG, caption),), tuple(tables))


def _metrics(result: Mapping[str, Any], names: Sequence[str], oracle: Estimate | None) -> Table:
    metrics = (NDCG, *(metric for metric in RANKING_METRICS if metric != NDCG))
    rows = [(name, *(plain(estimate_of(result["policies"][name].get(metric))) for metric in metrics)) for name in names]
    if oracle is not None:
        rows.insert(0, ("oracle", plain(oracle), *(UNKNOWN,) * (len(metrics) - 1)))
    return Table("How well each policy ranks", ("Policy", *metrics), tuple(rows))


def _shares(result: Mapping[str, Any], names: Sequence[str]) -> Iterator[Table]:
    known = [name for name in names if any(result["policies"][name].get(key) is not None for key in _SPREAD)]
    if known:
        columns = ("Policy", "Coverage", "Gini", "Novelty, bits")
        yield Table("What each policy shows", columns, tuple(_spread(name, result["policies"][name]) for name in known))


def _spread(name: str, measured: Mapping[str, Any]) -> tuple[str, ...]:
    coverage, gini, novelty = (measured.get(key) for key in _SPREAD)
    cells = ((coverage, ".1%"), (gini, ".3f"), (novelty, ".2f"))
    return (name, *(UNKNOWN if value is None else format(value, digits) for value, digits in cells))


def differences(result: Mapping[str, Any]) -> Iterator[Section]:
    """Return by how much each policy is better than each other."""
    names = ranked(result)
    found = [(one, other, difference(result, one, other)) for n, one in enumerate(names) for other in names[n + 1 :]]
    pairs = [(one, other, each) for one, other, each in found if each is not None]
    if not pairs and not result.get("differences"):
        return
    notes = (
        "In the matrix, a row's ndcg@10 minus a column's, on the same pages. ▲ the row is better, ▼ it is worse, no"
        " mark: the interval holds 0, so neither is shown.",
    )
    rows = tuple((one, other, signed(each), shown(each)) for one, other, each in pairs)
    every = Table(
        "Every two policies: ndcg@10 with intervals", ("One", "Other", "One minus other", "Shown"), rows, 2, True
    )
    tables = (*_named(result.get("differences") or {}), *([every] if pairs else []))
    matrix = _matrix(result, names) if pairs else None
    yield Section("Policies against each other", notes if pairs else (), tables=tables, matrix=matrix)


def _named(found: Mapping[str, Any]) -> Iterator[Table]:
    if found:
        metrics = [
            metric for metric in (NDCG, "recall@10", "hit_rate@10", "mrr") if any(metric in m for m in found.values())
        ]
        rows = tuple(
            (pair, *(signed(estimate_of(each.get(metric))) for metric in metrics)) for pair, each in found.items()
        )
        yield Table("Named comparisons, all metrics", ("Difference", *metrics), rows)


def _matrix(result: Mapping[str, Any], names: Sequence[str]) -> Matrix:
    return Matrix(tuple(names), tuple(tuple(_cell(result, one, other) for other in names) for one in names))


def _cell(result: Mapping[str, Any], one: str, other: str) -> Cell:
    found = difference(result, one, other)
    if found is None:
        return Cell("" if one == other else UNKNOWN, "self")
    kind = {"better": "better", "worse": "worse"}.get(shown(found), "none")
    mark = {"better": "▲ ", "worse": "▼ "}.get(kind, "")
    return Cell(f"{mark}{found.value:+.3f}", kind)


def ablation(result: Mapping[str, Any]) -> Iterator[Section]:
    """Return what each recommender is worth alone, added and removed."""
    rows = [
        (row["feature"], *(estimate_of(row.get(key)) for key in ("alone", "added", "removed")))
        for row in result.get("ablation") or ()
    ]
    if not rows:
        return
    table = Table(
        "ndcg@10 by recommender",
        ("Recommender", "Alone", "Added to popularity", "Lost without it", "Needed"),
        tuple(
            (name, plain(single), signed(added), signed(removed), _needed(removed))
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
            "What the mix loses without it, and what it adds to popularity.",
            zero=True,
        ),
    )
    yield Section("What each recommender is worth", tuple(_on_ablation(result)), charts, (table,))


def _on_ablation(result: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "Alone: the recommender ranks the page by itself. Added: what a mix of popularity and it gains over popularity."
        " Lost without it: by how much the whole mix is better than one trained without it."
    )
    yield spare(result)


def spare(result: Mapping[str, Any]) -> str:
    """Say which recommenders the mix could do without, as far as the window shows."""
    found = {row["feature"]: estimate_of(row.get("removed")) for row in result["ablation"]}
    spared = [name for name, removed in found.items() if removed is not None and removed.low <= 0 <= removed.high]
    worse = [name for name, removed in found.items() if removed is not None and removed.high < 0]
    said = []
    if spared:
        said.append(
            f"Leaving out {listed(spared)} alone, one at a time, shows no loss: the interval of what is lost holds 0."
        )
    if worse:
        said.append(f"The mix is better without {listed(worse)}.")
    return " ".join(said) or "Each recommender is needed: leaving any of them out makes the mix worse."


def _needed(removed: Estimate | None) -> str:
    if removed is None:
        return UNKNOWN
    return {"better": "yes", "worse": "better without", "no difference shown": "not shown"}[shown(removed)]


def slices(result: Mapping[str, Any]) -> Iterator[Section]:
    """Return how policies do on each kind of user and sale."""
    for title, rows in (result.get("slices") or {}).items():
        if not rows:
            continue
        metric = (result.get("slice_metrics") or {}).get(title, NDCG)
        named = [(_name(title, place, row["name"]), row) for place, row in enumerate(rows)]
        present = [name for name in ranked(result) if any(name in row["policies"] for row in rows)]
        yield Section(
            f"By {title}",
            tuple(filter(None, [cold(result, title)])),
            (_slice_chart(title, metric, named, _drawn(result, present)),),
            (_slice_table(metric, named, present),),
        )


def _drawn(result: Mapping[str, Any], present: Sequence[str]) -> list[str]:
    """Return what a slice's plot shows: the mix, the baseline to beat, and the best of the others."""
    singles = [name for name in alone(result) if name in present]
    chosen = [META, *(name for name in (_BASELINE,) if name in singles), *singles]
    return [name for name in dict.fromkeys(chosen) if name in present][:MOST_SERIES]


def _slice_chart(title: str, metric: str, named: Sequence[tuple[str, Mapping]], drawn: Sequence[str]) -> Chart:
    rows = [Row(name, tuple(estimate_of(row["policies"].get(policy)) for policy in drawn)) for name, row in named]
    return dots(rows, drawn, metric, f"{metric} by {title}, with 95% intervals.")


def _slice_table(metric: str, named: Sequence[tuple[str, Mapping]], present: Sequence[str]) -> Table:
    counted = "pages" if "pages" in named[0][1] else "purchases"
    rows = tuple(
        (name, f"{row[counted]:,}", *(plain(estimate_of(row["policies"].get(policy))) for policy in present))
        for name, row in named
    )
    return Table(metric, ("", counted.capitalize(), *present), rows)


def _name(title: str, place: int, name: str) -> str:
    return f"{name} ({_COLD[title][1]})" if _is_cold(title, place, name) else name


def _is_cold(title: str, place: int, name: str) -> bool:
    if title not in _COLD:
        return False
    cold_name = _COLD[title][0]
    return place == 0 if cold_name is None else name == cold_name


def cold(result: Mapping[str, Any], title: str) -> str:
    """Say how the mix does where it knows least; nothing where the slices do not tell."""
    for place, row in enumerate((result.get("slices") or {}).get(title) or ()):
        mix = estimate_of(row["policies"].get(META))
        if _is_cold(title, place, row["name"]) and mix is not None:
            metric = (result.get("slice_metrics") or {}).get(title, NDCG)
            counted = "pages" if "pages" in row else "purchases"
            best = _best_alone(row["policies"], alone(result))
            return f"{_COLD_IN_WORDS[title]} ({row[counted]:,} {counted}): {metric} of meta {plain(mix)}{best}."
    return ""


def _best_alone(measured: Mapping[str, Any], singles: Sequence[str]) -> str:
    known = [(name, found) for name in singles if (found := estimate_of(measured.get(name))) is not None]
    if not known:
        return ""
    name, found = max(known, key=lambda pair: pair[1].value)
    return f", of {name}, the best alone there, {plain(found)}"
