"""Versions of the registered model: their metadata, how two differ in configuration, and in a backtest."""

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
    """Metadata of a version, known without reading its files."""

    version: str
    aliases: tuple[str, ...]
    """Aliases of the version, ascending, such as champion."""
    created_at: datetime
    """When it was registered."""
    as_of: int | None
    """Instant before which all data it was trained on was known, microseconds UTC; None if it was registered
    without."""
    made_by: str
    """What trained it: `nightly` or `backtest`."""
    fingerprint: str
    """Digest of data, settings and code."""
    data_fingerprint: str
    """Digest of the validated tables."""
    configuration: str
    """Digest of `model_configuration`."""
    code_version: str
    """Digest of the code that trained it."""
    metrics: Mapping[str, float]
    """Metrics on the training set, and the number of its examples."""


def model_configuration(settings: Settings) -> dict[str, Any]:
    """Return the settings that determine a model, as plain values."""
    return {
        "meta_model": settings.meta_model.model_dump(mode="json"),
        "history": settings.history.model_dump(mode="json"),
        "recommenders": settings.recommenders.model_dump(mode="json"),
        "horizon_hours": settings.horizon_hours,
        "images": settings.images.model_dump(mode="json", include={"taggers": True, "themes": True}),
    }


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (dotted name, value, other value) of each setting that differs, by name; None for a setting that is
    absent."""
    first, second = dict(_flatten(one)), dict(_flatten(other))
    names = sorted(first.keys() | second.keys())
    return [(name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def pairs(policies: list[str]) -> dict[str, tuple[str, str]]:
    """Return all pairs of policies by the name of their difference in a backtest's result."""
    return {f"{one} - {other}": (one, other) for one, other in combinations(policies, 2)}


def evidence(run_id: str, backtest: Mapping[str, Any], version: str, champion: str) -> Evidence | None:
    """Return the difference of a version and the champion in a backtest; None if it did not measure both.

    Args:
        run_id: The backtest's run in MLflow.
        backtest: Its result; see `jobs.backtest`.
        version: Number of the version.
        champion: Number of the champion.
    """
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
