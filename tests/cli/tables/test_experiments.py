from dataclasses import replace
from io import StringIO

import pytest

from cli.tables.experiments import print_result, print_simulation
from recsys.console import TextConsole
from recsys.experiments.analysis.results import Interval, Result, Verdict
from recsys.experiments.analysis.simulation import MetricSimulation, Share, Simulation
from tests.helpers.reported_experiments import FALLBACKS, PURCHASES, interleaved, invalid, result, untold


def printed(found: Result, colours: bool = False) -> str:
    written = StringIO()
    system = "standard" if colours else None
    print_result(found, TextConsole(file=written, width=120, force_terminal=colours, color_system=system))
    return written.getvalue()


def row(text: str, start: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(start))


def test_verdict_and_reasons_come_before_the_figures():
    text = printed(result(verdict=Verdict("no-ship", ("Because.", "And because."))))
    parts = ("image-themes, phase 2: DO NOT SHIP", "Because.", "And because.", "purchases_per_user")
    positions = [text.index(part) for part in parts]
    assert positions == sorted(positions)


def test_row_shows_the_decisive_difference_and_the_finding():
    text = printed(result())
    assert row(text, "purchases_per_user ")[1:] == (
        ["themes", "0.412", "0.446", "+0.0306", "[+0.0076,", "+0.0536]", "+7.42%", "0.0182", "better"]
    )
    assert row(text, "revenue_per_user ")[-3:] == ["0.47", "not", "shown"]
    assert row(text, "visit_rate ")[1:] == ["themes", "–", "0.25", "–", "–", "–", "unknown"]
    assert row(text, "fallback_rate ")[-2:] == ["0.001", "violated"]


@pytest.mark.parametrize(("state", "finding"), [("holds", "holds"), ("open", "not shown to hold")])
def test_guardrail_shows_its_state(state, finding):
    guarded = replace(FALLBACKS, guard=replace(FALLBACKS.guard, state=state))
    assert finding in printed(result(comparisons=(PURCHASES, guarded)))


def test_difference_in_the_wrong_direction_is_worse():
    lower = replace(PURCHASES, direction="lower")
    assert row(printed(result(comparisons=(lower,))), "purchases_per_user ")[-1] == "worse"


def test_adjusted_p_takes_precedence_over_the_plain_one():
    corrected = replace(PURCHASES, adjusted_p=0.051)
    assert row(printed(result(comparisons=(corrected,))), "purchases_per_user ")[-3:] == ["0.051", "not", "shown"]


def test_only_an_invalid_result_is_dimmed():
    dim = "\x1b[2m"
    assert dim in printed(invalid(), colours=True)
    assert dim not in printed(result(), colours=True)


def test_interleaving_shows_the_purchases_by_variant():
    text = printed(interleaved())
    assert row(text, "themes ")[1:] == ["812", "901", "+0.0044", "[+0.0005,", "+0.0083]", "0.028", "–"]
    assert "Users: 9,871 of interleaved" in text


def test_result_without_comparisons_is_printed():
    assert "STILL RUNNING" in printed(untold())
    assert row(printed(interleaved(None)), "themes ")[3:] == ["–", "–", "–"]


def test_warnings_are_notes_and_markup_in_names_is_text():
    health = replace(result().health, warnings=("[bold]Look[/bold]",), users={"[red]": 3})
    text = printed(result(health=health, experiment="[x]", comparisons=(replace(PURCHASES, metric="[m]"),)))
    assert "Note: [bold]Look[/bold]" in text
    assert "Users: 3 of [red]" in text
    assert row(text, "[m] ")


def test_simulation_shows_the_false_positive_rate_of_each_way_of_looking():
    def share(count: int) -> Share:
        return Share(400, count, Interval(count / 500, count / 300))

    metric = MetricSimulation("purchases", "themes", share(20), share(80), share(4), 0.51)
    written = StringIO()
    constant = MetricSimulation(
        "revenue", "themes", share(0), share(0), share(0), None, "it is the same for every user"
    )
    simulation = Simulation(400, 12_345, (metric, constant), share(0))
    print_simulation(simulation, TextConsole(file=written, width=120))
    assert row(written.getvalue(), "purchases")[1:] == (
        ["themes", "5%", "[4%,", "6.67%]", "20%", "[16%,", "26.7%]", "1%", "[0.8%,", "1.33%]", "0.51", "PASS"]
    )
    assert row(written.getvalue(), "revenue")[1:] == ["themes", "–", "–", "–", "–", "cannot", "be", "tested"]
    assert "revenue of themes cannot be tested: it is the same for every user." in written.getvalue()
    assert "PASS  1 of 2 comparisons tested, alpha 0.05" in written.getvalue()
    assert "400 A/A tests on 12,345 users; false positive rates [95%]:" in written.getvalue()
    assert "Sample ratio test with daily looks: 0% [0%, 0%]" in written.getvalue()


def test_simulation_with_a_rate_above_alpha_fails():
    rates = [Share(400, count, Interval(0, 1)) for count in (40, 90, 4)]
    metric = MetricSimulation("purchases", "themes", *rates, 0.51)
    written = StringIO()
    print_simulation(Simulation(400, 12_345, (metric,), rates[2]), TextConsole(file=written, width=120))
    assert row(written.getvalue(), "purchases")[-1] == "FAIL"
    assert "FAIL  a rate is above alpha 0.05" in written.getvalue()
