"""Whether an experiment was run as it was meant to be: a lift that its set-up made is none."""

from collections.abc import Iterator, Mapping

from scipy.stats import chisquare

from recsys.experiments.analysis.results import HealthResult
from recsys.experiments.evidence import Health
from recsys.experiments.settings import Experiment

MOST_ASTRAY = 0.001
"""Share of users with more than one variant, or with another than the configuration says, that is still no matter."""
_MOST_FALLBACK_GAP = 0.01
"""Variants whose shares of pages that fell back differ by more compare the fallback too."""


def health_result(experiment: Experiment, health: Health) -> HealthResult:
    """Return what is shown of the counts of a phase."""
    users = sum(health.users.values())
    weights = {variant.key: variant.weight for variant in experiment.variants}
    fallback_share = _fallback_share(health)
    return HealthResult(
        users=dict(health.users),
        sample_ratio_p=None if experiment.type == "interleave" else sample_ratio_p(health.users, weights),
        jumpers=health.jumpers,
        jumper_share=health.jumpers / users if users else 0.0,
        pages=_nested(health.pages),
        fallback_share=fallback_share,
        configuration_shas=dict(health.configuration_shas),
        model_versions=_nested(health.model_versions),
        recomputed=health.recomputed,
        mismatches=health.mismatches,
        warnings=(*_warnings(experiment, health), *_gap(fallback_share)),
    )


def sample_ratio_p(users: Mapping[str, int], weights: Mapping[str, float]) -> float | None:
    """Return the p value of chi-squared that users split by their weights; None without users.

    Args:
        users: By variant; one that is missing has none.
        weights: By variant, summing to 1.
    """
    observed = [users.get(variant, 0) for variant in weights]
    total = sum(observed)
    return float(chisquare(observed, [total * weight for weight in weights.values()]).pvalue) if total else None


def invalidations(health: HealthResult, srm_alpha: float) -> Iterator[str]:
    """Say why no figure can be trusted, a sentence each; nothing where they can."""
    if health.sample_ratio_p is not None and health.sample_ratio_p < srm_alpha:
        counts = ", ".join(f"{n:,} of {variant}" for variant, n in health.users.items())
        yield (
            f"Users do not split by the weights: {counts}; chance does so with p {health.sample_ratio_p:.2g},"
            f" below {srm_alpha:g}. Some users of a variant are lost or counted twice."
        )
    if health.jumper_share > MOST_ASTRAY:
        yield (
            f"{health.jumpers:,} users ({health.jumper_share:.2%}) were assigned to more than one variant;"
            f" at most {MOST_ASTRAY:.1%} may be."
        )
    if health.mismatches > MOST_ASTRAY * health.recomputed:
        yield (
            f"{health.mismatches:,} of {health.recomputed:,} users were served another variant than the configuration"
            f" says; at most {MOST_ASTRAY:.1%} may be."
        )


def _warnings(experiment: Experiment, health: Health) -> Iterator[str]:
    if health.jumpers:
        yield f"{health.jumpers:,} users were assigned to more than one variant; they count for their first."
    if health.mismatches:
        yield f"{health.mismatches:,} users were served another variant than the configuration says."
    if len(health.configuration_shas) > 1:
        yield f"Pages were served under {len(health.configuration_shas)} configurations."
    versions = _nested(health.model_versions)
    for variant in experiment.variants:
        seen = sorted(version for version in versions.get(variant.key, {}) if version)
        if variant.model is not None and len(seen) > 1:
            yield f"{variant.key} was served by model versions {', '.join(seen)}: its figures mix them."


def _gap(fallback_share: Mapping[str, float]) -> Iterator[str]:
    if fallback_share and max(fallback_share.values()) - min(fallback_share.values()) > _MOST_FALLBACK_GAP:
        shares = ", ".join(f"{share:.1%} of {variant}" for variant, share in fallback_share.items())
        yield f"Pages fell back unevenly: {shares}. The variants differ by more than what they should serve."


def _fallback_share(health: Health) -> dict[str, float]:
    """Return by variant which share of the pages of its users fell back."""
    pages: dict[str, int] = {}
    for (variant, reason), n in health.pages.items():
        if reason in ("assigned", "fallback"):
            pages[variant] = pages.get(variant, 0) + n
    return {variant: health.fallbacks.get(variant, 0) / n for variant, n in sorted(pages.items()) if n}


def _nested(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (outer, inner), n in sorted(counts.items()):
        nested.setdefault(outer, {})[inner] = n
    return nested
