"""Valid experiment files as parsed from YAML, of which tests change single values."""

from datetime import UTC, datetime, timedelta
from typing import Any

from recsys.experiments.settings import Experiment, ExperimentFile
from recsys.instants import to_micros

START = datetime(2026, 3, 2, tzinfo=UTC)
END = datetime(2026, 3, 16, tzinfo=UTC)
DURING = START + timedelta(days=3)
NOW = to_micros(DURING)
PURCHASES = {"name": "purchases_per_user", "type": "mean", "column": "purchases"}
REVENUE = {"name": "revenue_per_user", "type": "mean", "column": "revenue"}


def written(key: str = "themes", **changes: Any) -> dict[str, Any]:
    """Return an experiment with two variants of unequal weight that runs from START to END."""
    return {
        "key": key,
        "status": "running",
        "start": START,
        "end": END,
        "variants": [
            {"key": "control", "weight": 0.3, "policy": "popularity"},
            {"key": "treated", "weight": 0.7, "policy": "meta", "model": "challenger"},
        ],
        "analysis": {"primary": [PURCHASES]},
    } | changes


def written_file(*experiments: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "default": {"policy": "meta"},
        "layers": {"home": {"seed": "layer:home:"}},
        "experiments": list(experiments),
    } | changes


def experiment(key: str = "themes", **changes: Any) -> Experiment:
    return Experiment.model_validate(written(key, **changes))


def experiment_file(*experiments: dict[str, Any], **changes: Any) -> ExperimentFile:
    return ExperimentFile.model_validate(written_file(*experiments, **changes))
