"""The texts and positions in the SVG of the plots of an experiment; their looks are checked by eye."""

import re
from dataclasses import replace
from datetime import date

import matplotlib
import pytest

from recsys.experiments.analysis.results import Difference, Interval, Look
from recsys.reports.experiment.charts import Chart, Panel, Row, daily, forest
from tests.helpers.reported_experiments import ATTACK, LOOKS

BETTER = Row("themes", Difference(2.0, Interval(1.0, 3.0), 0.01), "better")
WORSE = Row("explore", Difference(-2.5, Interval(-4.0, -1.0), 0.02), "worse")


def texts(chart: Chart) -> list[str]:
    return re.findall(r"<text[^>]*>(.*?)</text>", chart.svg)


def spans(chart: Chart, colour: str) -> list[tuple[float, float]]:
    """Return where lines of a colour start and end on the x axis."""
    lines = re.findall(r'd="M (\S+) (\S+) \nL (\S+) (\S+) \n" [^>]*stroke: ' + re.escape(colour), chart.svg)
    return [(float(x0), float(x1)) for x0, _, x1, _ in lines]


def test_forest_names_rows_and_their_figures():
    chart = forest([Panel("purchases", "higher", (BETTER, WORSE)), Panel("returns", "lower", (WORSE,))], "Seen.")
    assert {"purchases", "returns", "themes", "explore", "+2 [+1, +3]", "-2.5 [-4, -1]"} <= set(texts(chart))
    assert "higher is better" in texts(chart)
    assert "lower is better" in texts(chart)
    assert chart.text == (
        "Seen. purchases, higher is better: themes +2 [+1, +3], better; explore -2.5 [-4, -1], worse. "
        "returns, lower is better: explore -2.5 [-4, -1], worse."
    )


def test_interval_is_drawn_to_scale_around_zero():
    chart = forest([Panel("purchases", "higher", (BETTER, WORSE))], "Seen.")
    [(low, high)], [(other_low, other_high)] = spans(chart, "var(--good)"), spans(chart, "var(--bad)")
    unit = (high - low) / 2
    zero = low - unit
    assert other_low == pytest.approx(zero - 4 * unit, abs=0.01)
    assert other_high == pytest.approx(zero - unit, abs=0.01)


@pytest.mark.parametrize(("direction", "side"), [("higher", -1), ("lower", 1)])
def test_margin_is_drawn_on_the_worse_side(direction, side):
    open_row = Row("themes", Difference(0.0, Interval(-1.0, 1.0), 1.0), "not shown to hold")
    chart = forest([Panel("fallbacks", direction, (open_row,), margin=2.0)], "Seen.")
    [(low, high)], [(margin, end)] = spans(chart, "var(--open)"), spans(chart, "var(--bad)")
    assert margin == end == pytest.approx((low + high) / 2 + side * (high - low), abs=0.01)
    assert "margin 2" in chart.text


def test_finding_has_a_shape_beside_its_colour():
    shapes = []
    for finding in ("better", "worse", "not shown"):
        svg = forest([Panel("purchases", "higher", (replace(BETTER, finding=finding),))], "Seen.").svg
        shapes.append(re.search(r'<path id="m\w+" d="([^"]+)" style="stroke: var\(--(?!line)', svg)[1])
    assert shapes[0] != shapes[1]
    assert shapes[0] == shapes[2]


def test_row_without_a_difference_says_so():
    chart = forest([Panel("purchases", "higher", (Row("themes", None, "unknown"),))], "Seen.")
    assert texts(chart) == ["themes", "cannot be compared", "purchases", "higher is better"]


def test_zero_difference_without_spread_is_drawn():
    certain = Row("themes", Difference(0.0, Interval(0.0, 0.0), 1.0), "not shown")
    assert "+0 [+0, +0]" in texts(forest([Panel("fallbacks", "lower", (certain,))], "Seen."))


def test_forest_of_no_panel_is_an_empty_plot():
    assert texts(forest([], "Nothing.")) == []


def test_colours_are_variables_of_the_page_and_texts_are_text():
    for chart in (forest([Panel("purchases", "higher", (BETTER,))], "Seen."), daily(LOOKS, 0.05, "Days.")):
        assert not re.search(r"#[0-9a-f]{6}", re.sub(r'(id|href|clip-path)="[^"]*"', "", chart.svg))
        assert "var(--ink)" in chart.svg
        assert "<style" not in chart.svg
        assert "<metadata" not in chart.svg


@pytest.mark.parametrize("name", [ATTACK, "日本 $x_$ & co", "a" * 300])
def test_names_are_text_whatever_they_hold(name):
    chart = forest([Panel(name, "higher", (replace(BETTER, label=name),))], name)
    assert "<script" not in chart.svg
    drawn = [text for text in texts(chart) if not text.startswith(("+", "-", "0", "higher"))]
    assert all(len(text) < 80 for text in drawn)
    assert len(drawn) == 2
    assert name in chart.text


def test_days_are_drawn_with_both_intervals():
    chart = daily(LOOKS, 0.1, "Purchases.")
    assert {"difference", "90% interval", "90% always-valid interval"} <= set(texts(chart))
    assert {"2026-11-24", "2026-11-25", "2026-11-26", "0"} <= set(texts(chart))
    assert chart.text == (
        "Purchases. At the end of 2026-11-26: +0.0192, interval [+0.0154, +0.0231], "
        "always-valid interval [-0.0115, +0.05]."
    )


def test_wide_intervals_of_the_first_days_do_not_flatten_the_others():
    first = replace(LOOKS[0], interval=Interval(-900.0, 900.0), always_valid=Interval(-5000.0, 5000.0))
    calm = daily(LOOKS, 0.05, "Days.")
    assert texts(daily((first, *LOOKS[1:]), 0.05, "Days.")) == texts(calm)


def test_some_of_many_days_are_labelled_and_a_single_day_is_drawn():
    many = [replace(LOOKS[0], day=date(2026, 11, day)) for day in range(1, 29)]
    assert [text for text in texts(daily(many, 0.05, "Days.")) if text.startswith("2026")] == [
        f"2026-11-{day:02}" for day in (1, 7, 13, 19, 25)
    ]
    assert "2026-11-24" in texts(daily(LOOKS[:1], 0.05, "Day."))


def test_day_without_any_spread_is_drawn():
    flat = Look(date(2026, 11, 1), "m", "v", 2, 2, 0.0, Interval(0.0, 0.0), Interval(0.0, 0.0))
    assert "2026-11-01" in texts(daily([flat], 0.05, "Day."))


def test_settings_of_matplotlib_are_restored():
    with matplotlib.rc_context({"font.size": 5}):
        daily(LOOKS, 0.05, "Days.")
        assert matplotlib.rcParams["font.size"] == 5
