"""Checks that an experiment ran as configured: sample ratio mismatch, users in several variants, uneven fallbacks."""

from collections.abc import Iterator, Mapping

from scipy.stats import chisquare

from recsys.experiments.analysis.results import HealthResult
from recsys.experiments.phase_summary import Health
from recsys.experiments.settings import Experiment
from recsys.wording import plural

MOST_ASTRAY = 0.001
"""Largest acceptable share of users with more than one variant, or with another one than the configuration gives."""
_MOST_FALLBACK_GAP = 0.01
"""Largest acceptable difference of the variants' fallback shares: above it, the fallback affects the comparison."""


def health_result(experiment: Experiment, health: Health) -> HealthResult:
    """Return the health section of a result from the counts of a phase."""
    users = sum(health.users.values())
    weights = {variant.key: variant.weight for variant in experiment.variants}
    fallback_share = _fallback_share(health)
    return HealthResult(
        users=dict(health.users),
        sample_ratio_p=None if experiment.type == "interleave" else sample_ratio_p(health.users, weights),
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


def invalidations(health: HealthResult, srm_alpha: float) -> Iterator[str]:
    """Return the reasons why the result is invalid, a sentence each."""
    if health.sample_ratio_p is not None and health.sample_ratio_p < srm_alpha:
        counts = ", ".join(f"{n:,} of {variant}" for variant, n in health.users.items())
        yield (
            f"Sample ratio mismatch: users do not split by the weights: {counts}; p {health.sample_ratio_p:.2g} is"
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
