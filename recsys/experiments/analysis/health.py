"""Checks that an experiment ran as configured: sample ratio mismatch, users in several variants, uneven fallbacks."""

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import chisquare

from recsys.experiments.analysis.results import HealthResult
from recsys.experiments.phase_summary import ALL, ALL_USERS, Health, PhaseSummary
from recsys.experiments.settings import Experiment
from recsys.wording import plural

MOST_ASTRAY = 0.001
"""Largest acceptable share of users with more than one variant, or with another one than the configuration gives."""
_MOST_FALLBACK_GAP = 0.01
"""Largest acceptable difference of the variants' fallback shares: above it, the fallback affects the comparison."""


_PRIOR_USERS = 1_000.0
"""Weight of the configured split in the prior of the sequential test, as a number of users: it has the most power
against mismatches of about 1 / sqrt(_PRIOR_USERS), 3 points of share. A mismatch of 0.2 points is found with 1.6
million users."""


def health_result(experiment: Experiment, summary: PhaseSummary) -> HealthResult:
    """Return the health section of a result from the counts of a phase."""
    health = summary.health
    users = sum(health.users.values())
    weights = {variant.key: variant.weight for variant in experiment.variants}
    fallback_share = _fallback_share(health)
    return HealthResult(
        users=dict(health.users),
        sample_ratio_p=None if experiment.type == "interleave" else sample_ratio_p(health.users, weights),
        sequential_sample_ratio_p=(
            None if experiment.type == "interleave" else sequential_sample_ratio_p(_users_by_day(summary), weights)
        ),
        jumpers=health.jumpers,
        jumper_share=health.jumpers / users if users else 0.0,
        pages=_nest_counts(health.pages),
        fallback_share=fallback_share,
        configuration_shas=dict(health.configuration_shas),
        model_versions=_nest_counts(health.model_versions),
        recomputed=health.recomputed,
        mismatches=health.mismatches,
        warnings=(*_warnings(experiment, health), *_fallback_warning(fallback_share)),
    )


def sample_ratio_p(users: Mapping[str, int], weights: Mapping[str, float]) -> float | None:
    """Return the p value of the sample ratio test, a chi-squared test; None without users.

    Args:
        users: Number of users by variant; 0 for a missing variant.
        weights: Expected share by variant, summing to 1.
    """
    observed = [users.get(variant, 0) for variant in weights]
    total = sum(observed)
    return float(chisquare(observed, [total * weight for weight in weights.values()]).pvalue) if total else None


def sequential_sample_ratio_p(users_by_day: Iterable[Mapping[str, int]], weights: Mapping[str, float]) -> float | None:
    """Return the always-valid p value of the sample ratio test, which may be looked at every day; None without users.

    It is the inverse of the largest Bayes factor until now of any split against the configured one. With sound
    assignment, the probability that it ever falls below p is at most p.

    Args:
        users_by_day: Number of new users by variant, a mapping per day in order; 0 for a missing variant.
        weights: Expected share by variant, summing to 1.

    Source:
        Lindon and Malek 2022, Anytime-valid inference for multinomial count data, eq. 6, with a Dirichlet prior whose
        mean is the configured split.
    """
    shares = np.array(list(weights.values()))
    prior = _PRIOR_USERS * shares
    days = ([day.get(variant, 0) for variant in weights] for day in users_by_day)
    evidence = [_log_bayes_factor(np.array(counts), shares, prior) for counts in accumulate(days, np.add)]
    return math.exp(-max(0.0, *evidence)) if evidence else None


def invalidations(health: HealthResult, srm_alpha: float) -> Iterator[str]:
    """Return the reasons why the result is invalid, a sentence each."""
    if health.has_sample_ratio_mismatch(srm_alpha):
        counts = ", ".join(f"{n:,} of {variant}" for variant, n in health.users.items())
        yield (
            "Sample ratio mismatch: users do not split by the weights:"
            f" {counts}; p {health.sequential_sample_ratio_p:.2g}, which is valid at daily looks, is"
            f" below {srm_alpha:g}. Some users of a variant are lost or counted twice."
        )
    if health.jumper_share > MOST_ASTRAY:
        yield (
            f"More than one variant was assigned to {plural(health.jumpers, 'user')} ({health.jumper_share:.2%});"
            f" at most {MOST_ASTRAY:.1%} is acceptable."
        )
    if health.mismatches > MOST_ASTRAY * health.recomputed:
        yield (
            f"Another variant than the configuration gives was served to {health.mismatches:,} of"
            f" {plural(health.recomputed, 'user')}; at most {MOST_ASTRAY:.1%} is acceptable."
        )


def _users_by_day(summary: PhaseSummary) -> list[dict[str, int]]:
    """Return the number of new users by variant of each day."""
    by_day: dict[date, dict[str, int]] = {day: {} for day in summary.days}
    for group, sums in summary.sums.items():
        if group[:2] == (ALL, ALL_USERS):
            by_day[group.day][group.variant] = sums.n
    return list(by_day.values())


def _log_bayes_factor(counts: NDArray[np.int64], shares: NDArray[np.float64], prior: NDArray[np.float64]) -> float:
    """Return the log of the Bayes factor of a Dirichlet-distributed split against fixed shares."""
    any_split = (
        gammaln(prior.sum()) - gammaln(prior.sum() + counts.sum()) + (gammaln(prior + counts) - gammaln(prior)).sum()
    )
    return float(any_split - counts @ np.log(shares))


def _warnings(experiment: Experiment, health: Health) -> Iterator[str]:
    if health.jumpers:
        users = plural(health.jumpers, "user")
        yield f"More than one variant was assigned to {users}; the first one is analysed."
    if health.mismatches:
        users = plural(health.mismatches, "user")
        yield f"Another variant than the configuration gives was served to {users}."
    if len(health.configuration_shas) > 1:
        yield f"Pages were served under {len(health.configuration_shas)} configurations."
    versions = _nest_counts(health.model_versions)
    for variant in experiment.variants:
        seen = sorted(version for version in versions.get(variant.key, {}) if version)
        if variant.model is not None and len(seen) > 1:
            yield f"{variant.key} was served by model versions {', '.join(seen)}: its results mix them."


def _fallback_warning(fallback_share: Mapping[str, float]) -> Iterator[str]:
    if fallback_share and max(fallback_share.values()) - min(fallback_share.values()) > _MOST_FALLBACK_GAP:
        shares = ", ".join(f"{share:.1%} of {variant}" for variant, share in fallback_share.items())
        yield f"Shares of pages with a fallback differ: {shares}. The variants differ by more than their policies."


def _fallback_share(health: Health) -> dict[str, float]:
    """Return the share of fallback pages among the pages of each variant's users."""
    pages: dict[str, int] = {}
    for (variant, reason), n in health.pages.items():
        if reason in ("assigned", "fallback"):
            pages[variant] = pages.get(variant, 0) + n
    return {variant: health.fallbacks.get(variant, 0) / n for variant, n in sorted(pages.items()) if n}


def _nest_counts(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (outer, inner), n in sorted(counts.items()):
        nested.setdefault(outer, {})[inner] = n
    return nested
