"""Versions of the model, printed to a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from recsys.console import TextConsole, TextTable, line
from recsys.instants import from_micros
from recsys.meta_model import LogisticModel, MetaModel
from recsys.pipeline.night_values import NightValues
from recsys.registry.log import Change, Evidence
from recsys.registry.versions import CHAMPION, ModelVersion, differing
from recsys.reports.wording import UNKNOWN

_DIGEST = 12
"""Number of characters of a digest that are shown, enough to tell two apart."""


def print_versions(versions: Sequence[ModelVersion], console: TextConsole) -> None:
    """Print one row per version, newest first."""
    if not versions:
        console.print("No version is registered yet: train one with 'recsys nightly'.")
        return
    measured = list(dict.fromkeys(name for each in versions for name in each.metrics))
    table = TextTable("version", "alias", "as of", "made by", *measured, "configuration", "code")
    for each in versions:
        figures = (_format_metric(each.metrics.get(name)) for name in measured)
        table.add_row(
            each.version,
            line((", ".join(each.aliases), "bold green" if CHAMPION in each.aliases else "")),
            _format_as_of(each),
            each.made_by or UNKNOWN,
            *figures,
            each.configuration[:_DIGEST],
            each.code_version[:_DIGEST],
        )
    console.print(table)


def print_version(
    version: ModelVersion, model: MetaModel, configuration: Mapping[str, Any], console: TextConsole
) -> None:
    """Print a version without its coefficients: lineage, metrics, features and configuration."""
    rows = {
        "version": version.version,
        "alias": ", ".join(version.aliases) or UNKNOWN,
        "as of": _format_as_of(version),
        "made by": f"{version.made_by or UNKNOWN}, registered {version.created_at:%Y-%m-%d %H:%M} UTC",
        "features": ", ".join(model.features),
        "data": version.data_fingerprint,
        "code": version.code_version,
        "data, settings, code": version.fingerprint,
        **{name: _format_metric(value) for name, value in version.metrics.items()},
        **{name: str(value) for name, value, _ in differing(configuration, {})},
    }
    table = TextTable("", "", show_header=False, padding=(0, 2))
    for name, value in rows.items():
        table.add_row(line((name, "bold")), value)
    console.print(table)


def print_comparison(
    versions: tuple[ModelVersion, ModelVersion],
    models: tuple[MetaModel, MetaModel],
    configurations: tuple[Mapping[str, Any], Mapping[str, Any]],
    evidence: Evidence | None,
    console: TextConsole,
) -> None:
    """Print the differences of two versions: metrics, coefficients, settings, and the backtest of both."""
    names = [f"version {each.version}" for each in versions]
    metrics = _paired(*(each.metrics for each in versions))
    coefficients = _paired(*(model.coefficients_by_feature for model in models))
    table = TextTable("", *names)
    table.add_row("as of", *map(_format_as_of, versions))
    for name, values in metrics.items():
        table.add_row(name, *map(_format_metric, values))
    formats = ["+.3f" if isinstance(model, LogisticModel) else ".1%" for model in models]
    kind = " or ".join(dict.fromkeys("coefficient" if each == "+.3f" else "share of the gain" for each in formats))
    for name, values in coefficients.items():
        table.add_row(f"{kind} of {name}", *map(_format, values, formats))
    for name, *settings in differing(*configurations):
        table.add_row(name, *map(str, settings), style="yellow")
    console.print(table)
    measured = f"{names[0]} minus {names[1]}: {evidence}" if evidence else "No backtest has measured both."
    console.print(measured, style="bold")


def print_changes(changes: Sequence[Change], console: TextConsole) -> None:
    """Print one row per change of the champion, latest first."""
    table = TextTable("time", "author", "action", "from", "to", "reason", "evidence: ndcg@10")
    for each in reversed(changes):
        table.add_row(
            f"{each.at:%Y-%m-%d %H:%M}",
            each.by,
            f"{each.action}{', forced' if each.forced else ''}",
            each.before or UNKNOWN,
            each.after,
            each.why,
            f"{each.evidence.low:+.4f} to {each.evidence.high:+.4f}" if each.evidence else UNKNOWN,
        )
    console.print(table)


def print_nights(nights: Sequence[NightValues], console: TextConsole) -> None:
    """Print the checks of each night, latest last."""
    if not nights:
        console.print("No night has been checked yet: run 'recsys nightly'.")
        return
    columns = (
        "night",
        "version",
        "rejected rows",
        "sales covered",
        "users",
        "ndcg@10",
        "predicted / observed",
        "largest drift",
        "result",
    )
    table = TextTable(*columns)
    for each in nights:
        feature, drift = each.worst_drift
        table.add_row(
            f"{each.as_of:%Y-%m-%d %H:%M}",
            each.version,
            f"{each.rejected_share:.2%}",
            "–" if each.sales_covered is None else f"{each.sales_covered:.0%}",
            f"{each.users:,}",
            _format(each.ndcg, ".4f"),
            _format(each.calibration, ".2f"),
            f"{drift:+.2f} {feature}" if feature else UNKNOWN,
            line(("not published", "bold red") if each.problems else ("passed", "green")),
        )
    console.print(table)
    console.print(
        "ndcg@10 and predicted / observed purchases: of the champion on the day before; largest drift: of a "
        "feature's mean from that in training, in standard deviations."
    )


def _paired(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, tuple[float | None, float | None]]:
    return {name: (one.get(name), other.get(name)) for name in dict.fromkeys([*one, *other])}


def _format(value: float | None, spec: str) -> str:
    return UNKNOWN if value is None else format(value, spec)


def _format_metric(value: float | None) -> str:
    return _format(value, ",.0f" if value is not None and value.is_integer() else ".4f")


def _format_as_of(version: ModelVersion) -> str:
    return UNKNOWN if version.as_of is None else f"{from_micros(version.as_of):%Y-%m-%d %H:%M}"
