"""Sections on the meta-model itself: its calibration, its coefficients, its learning curve, boosted trees instead."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recsys.meta_model import META
from recsys.metrics import Estimate
from recsys.reports.backtest.charts import Decile, bars, curve
from recsys.reports.backtest.charts import calibration as calibration_chart
from recsys.reports.backtest.sections import Section
from recsys.reports.backtest.wording import (
    BOOSTED,
    JOINT,
    NDCG,
    boosted_advice,
    difference,
    estimate_of,
    format_finding,
    format_metric,
    is_boosted,
    join_names,
)
from recsys.reports.page import ReportTable
from recsys.reports.wording import UNKNOWN, number, percent
from recsys.wording import plural

FEWEST_PURCHASES = 100
"""A decile with fewer gives no relative error: chance alone moves it by 20%."""


def calibration(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the section that compares predicted probabilities with observed purchases."""
    deciles = result.get("calibration") or ()
    if not deciles:
        return
    rows = tuple(
        (str(decile), *_probabilities(row), f"{row['purchases']:,}", f"{row['sales']:,.0f}", relative_error(row))
        for decile, row in enumerate(deciles, 1)
    )
    columns = ("Decile", "Predicted", "Observed", "Interval", "Purchases", "Sales", "Relative error")
    drawn = [Decile(row["predicted"], Estimate(row["made"], row["low"], row["high"])) for row in deciles]
    caption = (
        "Predicted probability and observed share of purchases by decile, with 95% intervals; equal on the dashed line."
    )
    notes = tuple(filter(None, (_overall(result), calibration_finding(result))))
    yield Section(
        "Are the probabilities calibrated?",
        notes,
        (calibration_chart(drawn, caption),),
        (ReportTable("By decile of predicted probability", columns, rows),),
    )


def _probabilities(row: Mapping[str, float]) -> tuple[str, str, str]:
    return percent(row["predicted"]), percent(row["made"]), f"[{percent(row['low'])},{JOINT}{percent(row['high'])}]"


def relative_error(row: Mapping[str, float]) -> str:
    """Write predicted over observed purchases minus 1, where FEWEST_PURCHASES were observed."""
    if row["purchases"] < FEWEST_PURCHASES or not row["made"]:
        return "too few purchases"
    return percent(row["predicted"] / row["made"] - 1, "+")


def calibration_finding(result: Mapping[str, Any]) -> str:
    """Summarise the calibration in a sentence; empty where no decile has FEWEST_PURCHASES purchases."""
    judged = [row for row in result.get("calibration") or () if row["purchases"] >= FEWEST_PURCHASES and row["made"]]
    if not judged:
        return ""
    within = sum(row["low"] <= row["predicted"] <= row["high"] for row in judged)
    worst = max(judged, key=lambda row: abs(row["predicted"] / row["made"] - 1))
    excess = worst["predicted"] / worst["made"] - 1
    return (
        f"Of {plural(len(judged), 'decile')} with at least {FEWEST_PURCHASES} purchases, {within:,} have a predicted"
        f" probability within the interval; the largest relative error is {percent(excess, '+')}."
    )


def _overall(result: Mapping[str, Any]) -> str:
    measured = result["policies"].get(META, {})
    if measured.get("calibration") is None:
        return ""
    return (
        f"{_of_a_page(result['predicted'])} Over all sales open at a purchase: AUC {measured['auc']:.4f}, log-loss"
        f" {measured['log_loss']:.5f}."
    )


def _of_a_page(predicted: Mapping[str, float]) -> str:
    ratio = predicted["all"] / predicted["all_made"]
    return (
        f"A user who buys on a day is predicted to buy {predicted['all']:.2f} of the open sales, and bought"
        f" {predicted['all_made']:.2f} ({ratio:.2f} predicted per observed purchase); among the ten that the page"
        f" shows, {predicted['shown']:.2f} are predicted and {predicted['shown_made']:.2f} observed."
    )


def coefficients(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the section with the coefficient and a description of each feature."""
    rows = result.get("coefficients") or ()
    if not rows:
        return
    if "gain" in rows[0]:
        yield _importance(rows)
        return
    has_repeat = any(row.get("repeat") is not None for row in rows)
    series = ("not bought before", "bought before") if has_repeat else ("all sales",)
    cells = tuple(_coefficient_cells(row, has_repeat) for row in rows)
    columns = ("Feature", "Description", *(column for name in series for column in (name.capitalize(), "Odds ×")))
    drawn = [(row["feature"], row["first"], row.get("repeat")) for row in rows]
    note = (
        "A coefficient is the change in the log-odds of a purchase from the feature's mean to one standard deviation"
        " above it, all others equal; “odds × 1.5” means odds 50% higher. Correlated features share their weight."
    )
    chart = bars(drawn, series, "log-odds per standard deviation", "Coefficients of the meta-model.")
    table = ReportTable("Coefficients, log-odds", columns, cells, 2)
    strongest = max(rows, key=lambda row: abs(row["first"]))
    yield Section("Coefficients of the meta-model", (note, _strongest_sentence(strongest)), (chart,), (table,))


def _importance(rows: Sequence[Mapping[str, Any]]) -> Section:
    """Return the section on boosted trees, which have no coefficients."""
    ranked = sorted(rows, key=lambda row: -row["gain"])
    note = (
        "The model is boosted trees. A feature's importance is its share of the gain of all splits; it says how much"
        " the trees use the feature, not in which direction."
    )
    table = ReportTable(
        "Importance, share of the gain",
        ("Feature", "Description", "Importance"),
        tuple((row["feature"], row.get("words") or UNKNOWN, percent(row["gain"])) for row in ranked),
        2,
    )
    drawn = [(row["feature"], row["gain"], None) for row in ranked]
    chart = bars(drawn, ("all sales",), "share of the gain", "Importance of the features.")
    return Section("Importance of the features", (note,), (chart,), (table,))


def _coefficient_cells(row: Mapping[str, Any], has_repeat: bool) -> tuple[str, ...]:
    values = [row["first"], row.get("repeat")] if has_repeat else [row["first"]]
    cells = (cell for value in values for cell in _log_odds_cells(value))
    return (row["feature"], row.get("words") or UNKNOWN, *cells)


def _log_odds_cells(value: float | None) -> tuple[str, str]:
    """Write log-odds, and the factor by which they multiply the odds."""
    return (UNKNOWN, UNKNOWN) if value is None else (f"{value:+.2f}", f"{math.exp(value):.2f}")


def _strongest_sentence(row: Mapping[str, Any]) -> str:
    return (
        f"The strongest is {row['feature']}: one standard deviation more multiplies the odds of a purchase by"
        f" {math.exp(row['first']):.2f}."
    )


def learning_curve(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the section with ndcg@10 by number of training days."""
    rows = [row for row in result.get("learning_curve") or () if estimate_of(row[NDCG]) is not None]
    if not rows:
        return
    points = [(row["days"], found) for row in rows if (found := estimate_of(row[NDCG]))]
    cells = tuple(
        (f"{row['days']:,}", f"{row['examples']:,}", format_metric(found))
        for row, (_, found) in zip(rows, points, strict=True)
    )
    note = "Meta-models trained on the last n days. If the curve still rises at its end, more training days would help."
    chart = curve(points, "training days", "ndcg@10 of the meta-model by training days, with 95% intervals.")
    table = ReportTable("By training days", ("Days", "Examples", NDCG), cells)
    yield Section("Would more training days help?", (note,), (chart,), (table,))


def boosted(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the section on what boosted trees would gain and cost."""
    costs = _costs(result)
    if BOOSTED not in result["policies"]:
        return
    found = difference(result, BOOSTED, META)
    if found is None or is_boosted(result):  # the meta-model is boosted trees already
        return
    notes = [f"Boosted trees over the same features minus meta: {NDCG} {format_finding(found)}."]
    notes += [boosted_advice(result)] if boosted_advice(result) else []
    longer = [f"{number(ratio)} times as long to {verb}" for verb, _, ratio in costs if ratio]
    notes += [f"They take {join_names(longer)}."] if longer else []
    columns = ("Cost", META, BOOSTED)
    table = ReportTable("Cost", columns, tuple(cells for _, cells, _ in costs))
    yield Section("Would boosted trees be better?", tuple(notes), tables=(table,) if costs else ())


def _costs(result: Mapping[str, Any]) -> list[tuple[str, tuple[str, str, str], float | None]]:
    """Return each cost as its verb, its cells, and the boosted trees' cost as a multiple of the meta-model's."""
    training, scoring = result.get("training") or {}, result.get("scoring") or {}
    seconds = {name: row.get("seconds") for name, row in training.items()}
    found = []
    for verb, label, values in (
        ("train", "Training, seconds", seconds),
        ("score", "Scoring 1,000 pairs of user and sale, microseconds", scoring),
    ):
        one, other = values.get(META), values.get(BOOSTED)
        if one is not None and other is not None:
            found.append((verb, (label, number(one), number(other)), other / one if one else None))
    return found
