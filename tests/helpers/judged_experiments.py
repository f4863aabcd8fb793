"""Experiments, and sums over users with given values, as input of the analysis."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from recsys.experiments.analysis.outcomes import nonzero
from recsys.experiments.phase_summary import ALL, ALL_USERS, Group, Health, PhaseSummary, Sums
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
"""The end plus the attribution window of 7 days."""


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
    """Return the sums over users of columns with one value per user; the suffix `_capped` stands for `^0.9`."""
    arrays = {name.replace("_capped", "^0.9"): np.asarray(values, float) for name, values in columns.items()}
    names = sorted(arrays)
    products = {(a, b): float(arrays[a] @ arrays[b]) for a in names for b in names if a <= b}
    return Sums(len(arrays[names[0]]), {name: float(arrays[name].sum()) for name in names}, products)


def moments_of(**columns: ArrayLike) -> Sums:
    """Return what `sums_of` does, with products of three columns and the users whose value is not 0."""
    known, arrays = sums_of(**columns), {name: np.asarray(values, float) for name, values in columns.items()}
    cubes = {
        names: float(np.prod([arrays[name] for name in names], axis=0).sum())
        for names in combinations_with_replacement(sorted(arrays), 3)
    }
    nonzeros = {nonzero(name): float(np.count_nonzero(values)) for name, values in arrays.items()}
    return Sums(known.n, {**known.sums, **nonzeros}, {**known.products, **cubes})


def summary_of(
    by_variant: Mapping[str, Sums], day: date = DAY, users: Mapping[str, int] | None = None, **health: Any
) -> PhaseSummary:
    """Return the summary of a phase in which all users came on one day."""
    found = users or {variant: sums.n for variant, sums in by_variant.items()}
    sums = {Group(ALL, ALL_USERS, day, variant): each for variant, each in by_variant.items()}
    return PhaseSummary(sums, healthy(found, **health))


def summary_of_users(users: Mapping[str, int], **health: Any) -> PhaseSummary:
    """Return the summary of a phase with numbers of users alone, who came on one day."""
    return summary_of({variant: Sums(n) for variant, n in users.items()}, **health)


def healthy(users: Mapping[str, int], **changes: Any) -> Health:
    counts: dict[str, Any] = {
        "pages": {(variant, "assigned"): 3 * n for variant, n in users.items()},
        "fallbacks": {},
        "jumpers": 0,
        "configuration_shas": {"ab12": 5},
        "model_versions": {},
    }
    return Health(users=users, **(counts | changes))
