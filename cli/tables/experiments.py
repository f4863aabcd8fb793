"""Results of experiments, printed to a terminal."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

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


def print_result(result: Result, console: Console) -> None:
    """Print the verdict with its reasons, then one row per comparison, dimmed if the verdict is invalid."""
    console.print(Text(f"{result.experiment}, phase {result.phase}: "), end="")
    console.print(Text(headline(result.verdict).upper(), _STYLES[result.verdict.name]))
    console.print(Text(meaning(result)))
    for reason in result.verdict.reasons:
        console.print(Text(f"  {reason}"))
    dim = "dim" if result.verdict.name == "invalid" else ""
    if result.comparisons:
        console.print()
        console.print(_comparisons_table(result), style=dim)
    if result.interleaving is not None:
        console.print()
        console.print(_interleaving_table(result.interleaving), style=dim)
    users = ", ".join(f"{n:,} of {variant}" for variant, n in result.health.users.items()) or "none"
    console.print(Text(f"\nUsers: {users}"))
    for warning in result.health.warnings:
        console.print(Text(f"Note: {warning}", "yellow"))


def print_simulation(found: "Simulation", console: Console) -> None:
    """Print the false positive rate of simulated A/A tests, by way of looking at them."""
    console.print(
        Text(f"{plural(found.splits, 'A/A test')} on {plural(found.users, 'user')}; false positive rates [95%]:")
    )
    table = _borderless_table(
        "metric", "variant", "one look", "daily looks", "always valid", "p of uniformity", "result", labels=2
    )
    for each in found.metrics:
        shares = [_rate_with_interval(share) for share in (each.fixed, each.peeking, each.always_valid)]
        figures = [UNKNOWN] * 4 if each.untestable else [*shares, p_value(each.uniformity_p)]
        result = {None: "cannot be tested", True: "PASS", False: "FAIL"}[each.passes(found.alpha)]
        table.add_row(*map(Text, (each.metric, each.variant, *figures, result)))
    console.print(table)
    for each in found.metrics:
        if each.untestable:
            console.print(Text(f"{each.metric} of {each.variant} cannot be tested: {each.untestable}."))
    console.print(Text(f"Sample ratio test with daily looks: {_rate_with_interval(found.sample_ratio)}"))
    tested = sum(not each.untestable for each in found.metrics)
    if not found.passes:
        console.print(
            Text(
                f"FAIL  a rate is above alpha {found.alpha:g}, or p values are not uniform: the analysis of"
                " this shop's outcomes errs more often than it says"
            )
        )
    elif not tested:
        console.print(Text("No metric could be tested: take more days, or more frequent outcomes"))
    else:
        console.print(
            Text(f"PASS  {tested} of {plural(len(found.metrics), 'comparison')} tested, alpha {found.alpha:g}")
        )


def _comparisons_table(result: Result) -> Table:
    table = _borderless_table(
        "metric", "variant", "control", "treatment", "difference", "lift", "p", "finding", labels=2
    )
    for each in result.comparisons:
        table.add_row(*_comparison_cells(each, result.conventions.alpha))
    return table


def _comparison_cells(each: Comparison, alpha: float) -> list[Text]:
    decisive, found = each.decisive, finding(each, alpha)
    p = None if decisive is None else deciding_p(each, decisive)
    relative = lift(each).split(" ")[0]
    figures = (number(each.control_value), number(each.variant_value), estimate(decisive), relative, p_value(p))
    return [
        Text(each.metric, "bold" if each.role == "primary" else ""),
        *map(Text, (each.variant, *figures)),
        Text(found, _FINDINGS.get(found, "")),
    ]


def _interleaving_table(found: Interleaving) -> Table:
    table = _borderless_table(
        "variant", *(f"bought from {key}" for key in found.credits), "per user", "p", "always valid", labels=1
    )
    cells = (
        found.variant,
        *map(number, found.credits.values()),
        estimate(found.difference),
        tested(found.difference),
        stopping(found.always_valid),
    )
    table.add_row(*map(Text, cells))
    return table


def _rate_with_interval(share: "Share") -> str:
    return f"{percent(share.value)} [{percent(share.interval.low)}, {percent(share.interval.high)}]"


def _borderless_table(*columns: str, labels: int) -> Table:
    table = Table(*map(escape, columns), box=None, pad_edge=False)
    for column in table.columns[labels:]:
        column.justify = "right"
    return table
