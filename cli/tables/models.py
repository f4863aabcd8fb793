"""Versions of the model as tables that people read in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.instants import from_micros
from recsys.meta_model import MetaModel
from recsys.pipeline.night_values import NightValues
from recsys.registry.log import Change, Evidence
from recsys.registry.versions import CHAMPION, ModelVersion, differing

_DIGEST = 12
"""So many characters of a digest are shown: enough to tell two apart."""


def print_versions(versions: Sequence[ModelVersion], console: Console) -> None:
    """Print a row a version, the newest first."""
    if not versions:
        console.print("No version yet: train one with 'recsys nightly'.")
        return
    measured = list(dict.fromkeys(name for each in versions for name in each.metrics))
    table = Table("version", "alias", "as of", "made by", *measured, "configuration", "code", box=None, pad_edge=False)
    for each in versions:
        figures = (_metric(each.metrics.get(name)) for name in measured)
        table.add_row(
            each.version,
            Text(", ".join(each.aliases), "bold green" if CHAMPION in each.aliases else ""),
            _as_of(each),
            each.made_by or "–",
            *figures,
            each.configuration[:_DIGEST],
            each.code_version[:_DIGEST],
        )
    console.print(table)


def print_version(version: ModelVersion, model: MetaModel, configuration: Mapping[str, Any], console: Console) -> None:
    """Print all that a version carries but its coefficients."""
    rows = {
        "version": version.version,
        "alias": ", ".join(version.aliases) or "–",
        "as of": _as_of(version),
        "made by": f"{version.made_by or '–'}, registered {version.created_at:%Y-%m-%d %H:%M} UTC",
        "features": ", ".join(model.features),
        "data": version.data_fingerprint,
        "code": version.code_version,
        "data, settings, code": version.fingerprint,
        **{name: _metric(value) for name, value in version.metrics.items()},
        **{name: str(value) for name, value, _ in differing(configuration, {})},
    }
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(Text(name, "bold"), Text(value))
    console.print(table)


def print_comparison(
    versions: tuple[ModelVersion, ModelVersion],
    models: tuple[MetaModel, MetaModel],
    configurations: tuple[Mapping[str, Any], Mapping[str, Any]],
    evidence: Evidence | None,
    console: Console,
) -> None:
    """Print in what two versions differ: metrics, coefficients, settings, and what a backtest says of both."""
    names = [f"version {each.version}" for each in versions]
    metrics = _pairs(*(each.metrics for each in versions))
    slopes = _pairs(*(model.strengths for model in models))
    table = Table("", *names, box=None, pad_edge=False)
    table.add_row("as of", *map(_as_of, versions))
    for name, values in metrics.items():
        table.add_row(name, *map(_metric, values))
    for name, values in slopes.items():
        table.add_row(f"coefficient of {name}", *(_figure(value, "+.3f") for value in values))
    for name, *settings in differing(*configurations):
        table.add_row(name, *map(str, settings), style="yellow")
    console.print(table)
    console.print(
        Text(f"{names[0]} minus {names[1]}: {evidence}" if evidence else "No backtest holds both.", "bold"), end="\n"
    )


def print_changes(changes: Sequence[Change], console: Console) -> None:
    """Print a row a change of the champion, the latest first."""
    table = Table("when", "who", "", "from", "to", "why", "evidence", box=None, pad_edge=False)
    for each in reversed(changes):
        table.add_row(
            f"{each.at:%Y-%m-%d %H:%M}",
            Text(each.by),
            f"{each.action}{', forced' if each.forced else ''}",
            each.before or "–",
            each.after,
            Text(each.why),
            f"{each.evidence.low:+.4f} to {each.evidence.high:+.4f}" if each.evidence else "–",
        )
    console.print(table)


def print_nights(nights: Sequence[NightValues], console: Console) -> None:
    """Print what was measured of each night, the latest last."""
    if not nights:
        console.print("No night was checked yet: run 'recsys nightly'.")
        return
    columns = (
        "night",
        "version",
        "rejected",
        "sales covered",
        "users",
        "ndcg@10",
        "predicted / made",
        "most drift",
        "",
    )
    table = Table(*columns, box=None, pad_edge=False)
    for each in nights:
        feature, drift = each.worst_drift
        table.add_row(
            f"{each.as_of:%Y-%m-%d %H:%M}",
            each.version,
            f"{each.rejected_share:.2%}",
            f"{each.sales_covered:.0%}",
            f"{each.users:,}",
            _figure(each.ndcg, ".4f"),
            _figure(each.calibration, ".2f"),
            f"{drift:+.2f} {feature}" if feature else "–",
            Text("not published", "bold red") if each.problems else Text("passed", "green"),
        )
    console.print(table)
    console.print(
        "ndcg@10, predicted / made: of the champion on the day before; most drift: standard deviations from training."
    )


def _pairs(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, tuple[float | None, float | None]]:
    return {name: (one.get(name), other.get(name)) for name in dict.fromkeys([*one, *other])}


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _metric(value: float | None) -> str:
    return _figure(value, ",.0f" if value is not None and value.is_integer() else ".4f")


def _as_of(version: ModelVersion) -> str:
    return "–" if version.as_of is None else f"{from_micros(version.as_of):%Y-%m-%d %H:%M}"
