"""Experiments, and sums over users with known values, for tests of the analysis."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from recsys.experiments.evidence import ALL, EVERYBODY, Evidence, Group, Health, Sums
from recsys.experiments.settings import Experiment

PURCHASES = {"name": "purchases_per_user", "type": "mean", "column": "purchases"}
REVENUE = {"name": "revenue_per_user", "type": "mean", "column": "revenue"}
VISIT_RATE = {"name": "visit_rate", "type": "ratio", "numerator": "visits", "denominator": "exposures"}
FALLBACK_RATE = {
    "name": "fallback_rate",
    "type": "ratio",
    "numerator": "fallbacks",
    "denominator": "exposures",
    "margin": 0.005,
    "direction": "lower",
}
CONTROL = {"key": "control", "weight": 0.5, "policy": "meta", "model": "champion"}
THEMES = {"key": "themes", "weight": 0.5, "policy": "meta", "model": "challenger"}
DAY = date(2026, 12, 1)
RUNNING_AT = datetime(2026, 12, 3, tzinfo=UTC)
ENDED_AT = datetime(2026, 12, 15, tzinfo=UTC)
"""The end plus 7 days of attribution."""


def experiment(
    primary: Sequence[Mapping[str, Any]] = (PURCHASES,),
    variants: Sequence[Mapping[str, Any]] = (CONTROL, THEMES),
    type: str = "ab",
    **analysis: Any,
) -> Experiment:
    return Experiment.model_validate(
        {
            "key": "image-themes",
            "type": type,
            "status": "running",
            "start": datetime(2026, 11, 24, tzinfo=UTC),
            "end": datetime(2026, 12, 8, tzinfo=UTC),
            "variants": list(variants),
            "analysis": {"primary": list(primary), **analysis},
        }
    )


def sums_of(**columns: ArrayLike) -> Sums:
    """Return the sums over users of columns with one value per user; names may start with pre_ or end with _capped."""
    arrays = {name.replace("_capped", "^0.9"): np.asarray(values, float) for name, values in columns.items()}
    names = sorted(arrays)
    products = {(a, b): float(arrays[a] @ arrays[b]) for a in names for b in names if a <= b}
    return Sums(len(arrays[names[0]]), {name: float(arrays[name].sum()) for name in names}, products)


def evidence_of(
    by_variant: Mapping[str, Sums], day: date = DAY, users: Mapping[str, int] | None = None, **health: Any
) -> Evidence:
    """Return the evidence of an experiment whose users all came on one day."""
    n_users = users or {variant: sums.n for variant, sums in by_variant.items()}
    sums = {Group(ALL, EVERYBODY, day, variant): each for variant, each in by_variant.items()}
    return Evidence(sums, healthy(n_users, **health))


def healthy(users: Mapping[str, int], **changes: Any) -> Health:
    counts: dict[str, Any] = {
        "pages": {(variant, "assigned"): 3 * n for variant, n in users.items()},
        "fallbacks": {},
        "jumpers": 0,
        "configuration_shas": {"ab12": 5},
        "model_versions": {},
    }
    return Health(users=users, **(counts | changes))
