"""The texts and positions in the SVG of the plots of a backtest; their looks are checked by eye."""

import re

import pytest

from recsys.metrics import Estimate
from recsys.reports.backtest.charts import Decile, Row, bars, calibration, curve, dots
from recsys.reports.charts import Chart

TWO = (
    Row("Italy", (Estimate(0.2, 0.1, 0.4), Estimate(0.1, 0.1, 0.2))),
    Row("France", (Estimate(0.4, 0.3, 0.5), None)),
)


def texts(chart: Chart) -> list[str]:
    return re.findall(r"<text[^>]*>(.*?)</text>", chart.svg)


def lines(chart: Chart, colour: str) -> list[tuple[float, float, float, float]]:
    """Straight lines of a colour as (from x, from y, to x, to y)."""
    found = re.findall(r'd="M (\S+) (\S+) \nL (\S+) (\S+) \n" [^>]*stroke: ' + re.escape(colour), chart.svg)
    return [tuple(float(end) for end in line) for line in found]


def test_dots_are_drawn_to_scale_and_described_in_words():
    chart = dots(TWO, ("meta", "popularity"), "recall@10", "Seen.")
    italy, france = lines(chart, "var(--good)")
    assert italy[2] - italy[0] == pytest.approx(1.5 * (france[2] - france[0]), abs=0.01)
    assert france[0] - italy[0] == pytest.approx(france[2] - france[0], abs=0.01)
    assert italy[1] == italy[3] < france[1]
    assert {"Italy", "France", "meta", "popularity", "recall@10"} <= set(texts(chart))
    assert chart.text == (
        "Seen. Italy: meta 0.2000 [0.1000,\xa00.4000], popularity 0.1000 [0.1000,\xa00.2000]; "
        "France: meta 0.4000 [0.3000,\xa00.5000]."
    )


def test_series_are_drawn_apart_if_a_row_has_two():
    above, below = (lines(dots(TWO, ("a", "b"), "", ""), f"var(--{colour})")[0][1] for colour in ("good", "bad"))
    assert above < below
    single = (Row("x", (Estimate(1, 0, 2), None)), Row("y", (None, Estimate(1, 0, 2))))
    chart = dots(single, ("a", "b"), "", "")
    first, second = (lines(chart, f"var(--{colour})")[0][1] for colour in ("good", "bad"))
    assert second - first == pytest.approx(19, abs=0.1)  # one series per row: both are drawn in the middle of their row


def test_differences_have_a_line_at_zero_and_signs():
    row = (Row("Italy", (Estimate(0.25, -0.5, 1.0),)),)
    chart = dots(row, ("meta",), "", "", zero=True)
    [(left, _, right, _)] = lines(chart, "var(--good)")
    zeros = [x for x, _, end, _ in lines(chart, "var(--quiet)") if x == end]
    assert zeros == [pytest.approx(left + (right - left) / 3, abs=0.01)]
    assert "+0.2500 [-0.5000,\xa0+1.0000]" in chart.text
    assert lines(dots(row, ("meta",), "", ""), "var(--quiet)") == []


def test_series_have_shapes_beside_their_colours():
    rows = (Row("Italy", (Estimate(1, 0, 2),) * 3),)
    svg = dots(rows, ("a", "b", "c"), "", "").svg
    shapes = set(re.findall(r'<path id="m\w+" d="([^"]+)" style="stroke: var\(--(?:good|bad|open)', svg))
    assert len(shapes) == 3


def test_bars_of_one_series_have_one_name_in_the_legend():
    assert "repeat" in texts(bars([("age", 0.5, None), ("price", -0.5, 0.1)], ("first", "repeat"), "", ""))
    chart = bars([("age", 0.5, None)], ("all",), "", "")
    assert "all" in texts(chart)
    assert chart.text == " all. age: +0.5, –."


def test_curve_names_its_points():
    chart = curve([(1, Estimate(0.1, 0.05, 0.2)), (28, Estimate(0.3, 0.2, 0.4))], "days", "Seen.")
    assert {"1", "28", "days"} <= set(texts(chart))
    first, last = [line for line in lines(chart, "var(--good)") if line[0] == line[2]]
    assert abs(last[1] - last[3]) == pytest.approx(4 / 3 * abs(first[1] - first[3]), abs=0.01)


def test_calibration_draws_no_decile_at_0_but_describes_it():
    accurate = Decile(0.01, Estimate(0.01, 0.0, 0.02))
    chart = calibration([Decile(0.001, Estimate(0.0, 0.0, 0.002)), accurate], "Seen.")
    [interval] = [line for line in lines(chart, "var(--good)") if line[0] == line[2]]
    [diagonal] = lines(chart, "var(--quiet)")
    assert interval[1] == diagonal[1]  # starts at the edge of the plot, since log 0 is infinite
    assert chart.text == "Seen. predicted 0.001, observed 0; predicted 0.01, observed 0.01."


def test_calibration_has_its_diagonal_from_corner_to_corner_and_points_on_it():
    chart = calibration([Decile(0.01, Estimate(0.01, 0.008, 0.02)), Decile(0.1, Estimate(0.1, 0.09, 0.2))], "")
    [(x0, y0, x1, y1)] = lines(chart, "var(--quiet)")
    slope = (y1 - y0) / (x1 - x0)
    points = [
        (float(x), float(y)) for x, y in re.findall(r'<use xlink:href="#m\w+" x="(\S+)" y="(\S+)" style', chart.svg)
    ]
    assert len(points) == 2
    assert {"1%", "10%"} <= set(texts(chart))
    assert all(y - y0 == pytest.approx(slope * (x - x0), abs=0.05) for x, y in points)


def test_rows_without_estimates_and_no_deciles_are_drawn_as_empty_plots():
    assert "Italy" in texts(dots((Row("Italy", (None,)),), ("meta",), "", ""))
    assert "Italy" in texts(dots((Row("Italy", ()),), (), "", ""))
    assert calibration([], "").svg.startswith("<svg")
