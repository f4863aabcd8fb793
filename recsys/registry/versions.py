"""Versions of the registered model: what each carries, in what two differ, what a backtest says of two."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import combinations
from typing import Any, NamedTuple

from recsys.config.settings import Settings
from recsys.metrics import NDCG
from recsys.registry.log import Evidence

CHAMPION = "champion"
CHALLENGER = "challenger"


class ModelVersion(NamedTuple):
    """What is known of a version without reading its files."""

    version: str
    aliases: tuple[str, ...]
    created_at: datetime
    as_of: int | None
    """Trained on what was known up to this instant, microseconds; None where an earlier project registered it."""
    made_by: str
    """`nightly` or `backtest`."""
    fingerprint: str
    """Of data, settings and code."""
    data_fingerprint: str
    configuration: str
    """A digest of `model_configuration`."""
    code_version: str
    metrics: Mapping[str, float]
    """On its training set; and how many examples that had."""


def model_configuration(settings: Settings) -> dict[str, Any]:
    """Return the settings that make a model what it is, as plain values."""
    return {
        "meta_model": settings.meta_model.model_dump(mode="json"),
        "history": settings.history.model_dump(mode="json"),
        "recommenders": settings.recommenders.model_dump(mode="json"),
        "horizon_hours": settings.horizon_hours,
        "images": settings.images.model_dump(mode="json", include={"tagger": True, "themes": True}),
    }


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return each setting that two configurations have differently, by its dotted name; None where one has none."""
    first, second = dict(_flat(one)), dict(_flat(other))
    names = sorted(first.keys() | second.keys())
    return [(name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)]


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def pairs(policies: list[str]) -> dict[str, tuple[str, str]]:
    """Return every two of the policies by the name that a backtest gives their difference."""
    return {f"{one} - {other}": (one, other) for one, other in combinations(policies, 2)}


def evidence(run_id: str, backtest: Mapping[str, Any], version: str, champion: str) -> Evidence | None:
    """Return what a backtest says of a version against the champion; None where it does not hold both."""
    window, differences = backtest["window"], backtest.get(f"paired_{NDCG}", {})
    policies = {number: policy for policy, number in window.get("versions", {}).items()}
    if version not in policies or champion not in policies:
        return None
    ours, theirs = policies[version], policies[champion]
    if found := differences.get(f"{ours} - {theirs}"):
        value, low, high = found["value"], found["low"], found["high"]
    elif found := differences.get(f"{theirs} - {ours}"):
        value, low, high = -found["value"], -found["high"], -found["low"]
    else:
        return None
    return Evidence(run_id=run_id, first_day=window["from"], last_day=window["to"], value=value, low=low, high=high)
