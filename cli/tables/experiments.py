"""Results of experiments, printed to a terminal."""

from typing import TYPE_CHECKING

from recsys.console import Line, TextConsole, TextTable, line
from recsys.experiments.analysis.results import Comparison, Interleaving, Result
from recsys.reports.experiment.wording import (
    deciding_p,
    estimate,
    finding,
    headline,
    lift,
    meaning,
    p_value,
    stopping,
    tested,
)
from recsys.reports.wording import UNKNOWN, number, percent
from recsys.wording import plural

if TYPE_CHECKING:
    from recsys.experiments.analysis.simulation import Share, Simulation

_STYLES = {
    "ship": "bold green",
    "no-ship": "bold red",
    "inconclusive": "bold",
    "running": "bold blue",
    "invalid": "bold white on red",
}
_FINDINGS = {"better": "green", "holds": "green", "worse": "red", "violated": "red", "too few to tell": "yellow"}


def print_result(result: Result, console: TextConsole) -> None:
    """Print the verdict with its reasons, then one row per comparison, dimmed if the verdict is invalid."""
    verdict = (headline(result.verdict).upper(), _STYLES[result.verdict.name])
    console.print(line(f"{result.experiment}, phase {result.phase}: ", verdict), meaning(result))
    for reason in result.verdict.reasons:
        console.print(f"  {reason}")
    dim = "dim" if result.verdict.name == "invalid" else ""
    if result.comparisons:
        console.print()
        console.print(_comparisons_table(result), style=dim)
    if result.interleaving is not None:
        console.print()
        console.print(_interleaving_table(result.interleaving), style=dim)
    users = ", ".join(f"{n:,} of {variant}" for variant, n in result.health.users.items()) or "none"
    console.print("", f"Users: {users}")
    for warning in result.health.warnings:
        console.print(f"Note: {warning}", style="yellow")


def print_simulation(found: "Simulation", console: TextConsole) -> None:
    """Print the false positive rate of simulated A/A tests, by way of looking at them."""
    console.print(f"{plural(found.splits, 'A/A test')} on {plural(found.users, 'user')}; false positive rates [95%]:")
    columns = ("metric", "variant", "one look", "daily looks", "always valid", "p of uniformity", "result")
    table = TextTable(*columns, labels=2)
    for each in found.metrics:
        shares = [_rate_with_interval(share) for share in (each.fixed, each.peeking, each.always_valid)]
        figures = [UNKNOWN] * 4 if each.untestable else [*shares, p_value(each.uniformity_p)]
        result = {None: "cannot be tested", True: "PASS", False: "FAIL"}[each.passes(found.alpha)]
        table.add_row(each.metric, each.variant, *figures, result)
    console.print(table)
    for each in found.metrics:
        if each.untestable:
            console.print(f"{each.metric} of {each.variant} cannot be tested: {each.untestable}.")
    console.print(f"Sample ratio test with daily looks: {_rate_with_interval(found.sample_ratio)}")
    tested = sum(not each.untestable for each in found.metrics)
    if not found.passes:
        console.print(
            f"FAIL  a rate is above alpha {found.alpha:g}, or p values are not uniform: the analysis of this shop's "
            "outcomes errs more often than it says"
        )
    elif not tested:
        console.print("No metric could be tested: take more days, or more frequent outcomes")
    else:
        console.print(f"PASS  {tested} of {plural(len(found.metrics), 'comparison')} tested, alpha {found.alpha:g}")


def _comparisons_table(result: Result) -> TextTable:
    table = TextTable("metric", "variant", "control", "treatment", "difference", "lift", "p", "finding", labels=2)
    for each in result.comparisons:
        table.add_row(*_comparison_cells(each, result.conventions.alpha))
    return table


def _comparison_cells(each: Comparison, alpha: float) -> list[str | Line]:
    decisive, found = each.decisive, finding(each, alpha)
    p = None if decisive is None else deciding_p(each, decisive)
    relative = lift(each).split(" ")[0]
    figures = (number(each.control_value), number(each.variant_value), estimate(decisive), relative, p_value(p))
    return [
        line((each.metric, "bold" if each.role == "primary" else "")),
        each.variant,
        *figures,
        line((found, _FINDINGS.get(found, ""))),
    ]


def _interleaving_table(found: Interleaving) -> TextTable:
    table = TextTable(
        "variant", *(f"bought from {key}" for key in found.credits), "per user", "p", "always valid", labels=1
    )
    table.add_row(
        found.variant,
        *map(number, found.credits.values()),
        estimate(found.difference),
        tested(found.difference),
        stopping(found.always_valid),
    )
    return table


def _rate_with_interval(share: "Share") -> str:
    return f"{percent(share.value)} [{percent(share.interval.low)}, {percent(share.interval.high)}]"
