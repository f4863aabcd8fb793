"""What a backtest tells of the meta-model itself: its probabilities, its coefficients, what more data or trees give."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from recsys.meta_model import META
from recsys.metrics import Estimate
from recsys.reports.backtest.charts import Tenth, bars, curve
from recsys.reports.backtest.charts import calibration as calibration_chart
from recsys.reports.backtest.sections import Section
from recsys.reports.backtest.wording import BOOSTED, JOINT, NDCG, decided, difference, estimate_of, listed, plain
from recsys.reports.page import Table
from recsys.reports.wording import UNKNOWN, number, percent

FEWEST_PURCHASES = 100
"""A tenth with fewer says little of a relative error: chance alone moves it by 20%."""


def calibration(result: Mapping[str, Any]) -> Iterator[Section]:
    """Return whether predicted probabilities come true."""
    tenths = result.get("calibration") or ()
    if not tenths:
        return
    rows = tuple(
        (str(place), *_made(row), f"{row['purchases']:,}", f"{row['sales']:,}", error_in_words(row))
        for place, row in enumerate(tenths, 1)
    )
    columns = ("Tenth", "Predicted", "Bought", "Interval", "Purchases", "Sales shown", "Predicted too much by")
    drawn = [Tenth(row["predicted"], Estimate(row["made"], row["low"], row["high"])) for row in tenths]
    caption = "Predicted probability against the share that was bought, by tenth; on the dashed line they are the same."
    notes = tuple(filter(None, (_on_all(result), off(result))))
    yield Section(
        "Do the probabilities come true?",
        notes,
        (calibration_chart(drawn, caption),),
        (Table("By tenth of predicted probability", columns, rows),),
    )


def _made(row: Mapping[str, float]) -> tuple[str, str, str]:
    return percent(row["predicted"]), percent(row["made"]), f"[{percent(row['low'])},{JOINT}{percent(row['high'])}]"


def error_in_words(row: Mapping[str, float]) -> str:
    """Write by how much too much was predicted, where enough was bought to tell."""
    if row["purchases"] < FEWEST_PURCHASES or not row["made"]:
        return "too few"
    return percent(row["predicted"] / row["made"] - 1, "+")


def off(result: Mapping[str, Any]) -> str:
    """Say how far the probabilities are off; nothing where no tenth has enough purchases."""
    told = [row for row in result.get("calibration") or () if row["purchases"] >= FEWEST_PURCHASES and row["made"]]
    if not told:
        return ""
    within = sum(row["low"] <= row["predicted"] <= row["high"] for row in told)
    worst = max(told, key=lambda row: abs(row["predicted"] / row["made"] - 1))
    excess = worst["predicted"] / worst["made"] - 1
    side = "much" if excess > 0 else "little"
    return (
        f"Of {len(told)} tenths with {FEWEST_PURCHASES} or more purchases, {within} have the predicted probability"
        f" within the interval; the one farthest off predicts {percent(abs(excess))} too {side}."
    )


def _on_all(result: Mapping[str, Any]) -> str:
    measured = result["policies"].get(META, {})
    if measured.get("calibration") is None:
        return ""
    return (
        f"Over all sales open at a purchase, {measured['calibration']:.2f} purchases are predicted per purchase made;"
        f" AUC {measured['auc']:.4f}, log-loss {measured['log_loss']:.5f}."
    )


def coefficients(result: Mapping[str, Any]) -> Iterator[Section]:
    """Return what the meta-model makes of each feature, in words."""
    rows = result.get("coefficients") or ()
    if not rows:
        return
    known = any(row.get("again") is not None for row in rows)
    series = ("not bought before", "bought before") if known else ("all sales",)
    told = tuple(_coefficient(row, known) for row in rows)
    columns = ("Feature", "What it is", *(column for name in series for column in (name.capitalize(), "Odds ×")))
    drawn = [(row["feature"], row["first"], row.get("again")) for row in rows]
    note = (
        "How much one standard deviation more of a feature, all others alike, changes the log-odds of a purchase;"
        " “odds × 1.5” means half as much again. Features that tell the same share their weight."
    )
    chart = bars(drawn, series, "log-odds per standard deviation", "Coefficients of the meta-model.")
    table = Table("Coefficients, log-odds", columns, told, 2)
    strongest = max(rows, key=lambda row: abs(row["first"]))
    yield Section("What the mix looks at", (note, _in_a_sentence(strongest)), (chart,), (table,))


def _coefficient(row: Mapping[str, Any], known: bool) -> tuple[str, ...]:
    values = [row["first"], row.get("again")] if known else [row["first"]]
    cells = (cell for value in values for cell in _log_odds(value))
    return (row["feature"], row.get("words") or UNKNOWN, *cells)


def _log_odds(value: float | None) -> tuple[str, str]:
    """Write log-odds, and what they multiply the odds by."""
    return (UNKNOWN, UNKNOWN) if value is None else (f"{value:+.2f}", f"{math.exp(value):.2f}")


def _in_a_sentence(row: Mapping[str, Any]) -> str:
    return (
        f"The strongest is {row['feature']} ({row.get('words') or 'no description'}): one standard deviation more"
        f" multiplies the odds of a purchase by {math.exp(row['first']):.2f}."
    )


def learning_curve(result: Mapping[str, Any]) -> Iterator[Section]:
    """Return what more training days give."""
    rows = [row for row in result.get("learning_curve") or () if estimate_of(row[NDCG]) is not None]
    if not rows:
        return
    points = [(row["days"], found) for row in rows if (found := estimate_of(row[NDCG]))]
    told = tuple(
        (f"{row['days']:g}", f"{row['examples']:,}", plain(found)) for row, (_, found) in zip(rows, points, strict=True)
    )
    note = "Meta-models trained on the last so many days. Where the curve still rises at its end, more days would help."
    chart = curve(points, "training days", "ndcg@10 of the meta-model by training days, with 95% intervals.")
    table = Table("By training days", ("Days", "Examples", NDCG), told)
    yield Section("Would more training days help?", (note,), (chart,), (table,))


def boosted(result: Mapping[str, Any]) -> Iterator[Section]:
    """Return what the boosted challenger gains and costs."""
    costs = _costs(result)
    if BOOSTED not in result["policies"]:
        return
    gain = difference(result, BOOSTED, META)
    notes = [f"Against meta, boosted trees over the same features reach ndcg@10 {decided(gain)}."] if gain else []
    longer = [f"{times:,.3g} times as long to {verb}" for verb, _, times in costs if times]
    notes += [f"They take {listed(longer)}."] if longer else []
    columns = ("Cost", META, BOOSTED)
    table = Table("What it costs", columns, tuple(cells for _, cells, _ in costs))
    yield Section("Would boosted trees be better?", tuple(notes), tables=(table,) if costs else ())


def _costs(result: Mapping[str, Any]) -> list[tuple[str, tuple[str, str, str], float | None]]:
    """Return for each cost what it is to do, its cells, and how often the challenger's is the meta-model's."""
    training, scoring = result.get("training") or {}, result.get("scoring") or {}
    seconds = {name: row.get("seconds") for name, row in training.items()}
    found = []
    for verb, label, values in (
        ("train", "Training, seconds", seconds),
        ("score", "Scoring 1,000 pairs of user and sale, µs", scoring),
    ):
        one, other = values.get(META), values.get(BOOSTED)
        if one is not None and other is not None:
            found.append((verb, (label, number(one), number(other)), other / one if one else None))
    return found
