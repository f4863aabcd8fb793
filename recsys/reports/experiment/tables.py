"""The tables of a report, which together hold every figure of an analysis."""

from collections.abc import Sequence

from recsys.experiments.analysis.health import MOST_ASTRAY
from recsys.experiments.analysis.results import Comparison, HealthResult, Interleaving, Look, Result, SegmentResult
from recsys.reports.experiment.wording import TOO_FEW, bounds, estimate, finding, lift, p_value, stopping, tested
from recsys.reports.page import ReportTable
from recsys.reports.wording import UNKNOWN, number, percent

_COMPARISON = "Metric, Variant, Control, Treatment, Difference, Lift, p, Adjusted p, Margin, Finding"
_ADJUSTMENT = "Metric, Variant, Users of control, Users, Plain difference, p, CUPED difference, p, Variance reduction"
_EVIDENCE = "Metric, Variant, Users of control, With a value, Users, With a value, Skewness of the difference, Enough"
_SENSITIVITY = "Metric, Variant, Always-valid interval, p, Adjusted p, Minimum detectable effect, Relative to control"
_DAYS = "Day, Users of control, Users, Difference, Interval, Always-valid interval"
_SEGMENTS = "Segment, Metric, Variant, Users of control, Users, Control, Treatment, Difference, Lift, p, Finding"


def tables_of_comparisons(comparisons: Sequence[Comparison], alpha: float) -> tuple[ReportTable, ...]:
    """Return findings, plain and CUPED-adjusted differences, always-valid intervals and whether the data suffice."""
    return (
        ReportTable(
            "All comparisons",
            _names(_COMPARISON),
            tuple(_comparison_cells(each, alpha) for each in comparisons),
            labels=2,
        ),
        ReportTable(
            "Without and with CUPED", _names(_ADJUSTMENT), tuple(map(_adjustment_cells, comparisons)), labels=2
        ),
        ReportTable(
            "Always-valid intervals, and minimum detectable effects",
            _names(_SENSITIVITY),
            tuple(map(_sensitivity_cells, comparisons)),
            labels=2,
        ),
        ReportTable("Whether the data suffice", _names(_EVIDENCE), tuple(map(_evidence_cells, comparisons)), labels=2),
    )


def _comparison_cells(each: Comparison, alpha: float) -> tuple[str, ...]:
    return (
        f"{each.metric} ({each.role})",
        each.variant,
        number(each.control_value),
        number(each.variant_value),
        estimate(each.decisive),
        lift(each),
        tested(each.decisive),
        p_value(each.adjusted_p),
        number(each.guard.margin if each.guard else None),
        finding(each, alpha),
    )


def _adjustment_cells(each: Comparison) -> tuple[str, ...]:
    return (
        each.metric,
        each.variant,
        f"{each.control_users:,}",
        f"{each.variant_users:,}",
        estimate(each.plain),
        tested(each.plain),
        estimate(each.cuped),
        tested(each.cuped),
        percent(each.cuped.variance_reduction if each.cuped else None),
    )


def _sensitivity_cells(each: Comparison) -> tuple[str, ...]:
    return (
        each.metric,
        each.variant,
        stopping(each.always_valid) if each.can_tell else TOO_FEW,
        tested(each.always_valid),
        p_value(each.always_valid.adjusted_p if each.always_valid else None),
        number(each.detectable.absolute if each.detectable else None),
        percent(each.detectable.relative if each.detectable else None),
    )


def _evidence_cells(each: Comparison) -> tuple[str, ...]:
    evidence = each.evidence
    return (
        each.metric,
        each.variant,
        f"{each.control_users:,}",
        f"{evidence.control_nonzero:,}" if evidence else UNKNOWN,
        f"{each.variant_users:,}",
        f"{evidence.variant_nonzero:,}" if evidence else UNKNOWN,
        number(evidence.skewness if evidence else None, "+"),
        "yes" if each.can_tell else "no",
    )


def table_of_days(looks: Sequence[Look]) -> ReportTable:
    """Return the difference known at the end of each day, of one metric and variant."""
    rows = tuple(
        (
            look.day.isoformat(),
            f"{look.control_users:,}",
            f"{look.variant_users:,}",
            number(look.difference, "+"),
            bounds(look.interval),
            bounds(look.always_valid) if look.can_tell else TOO_FEW,
        )
        for look in looks
    )
    return ReportTable(f"{looks[0].metric} of {looks[0].variant}, day by day", _names(_DAYS), rows, is_long=True)


def table_of_segments(segments: Sequence[SegmentResult], alpha: float) -> ReportTable:
    """Return the comparisons of the primary metrics by segment."""
    rows = tuple(_segment_cells(segment.name, each, alpha) for segment in segments for each in segment.comparisons)
    return ReportTable("Primary metrics by segment", _names(_SEGMENTS), rows, labels=3)


def _segment_cells(name: str, each: Comparison, alpha: float) -> tuple[str, ...]:
    return (
        name,
        each.metric,
        each.variant,
        f"{each.control_users:,}",
        f"{each.variant_users:,}",
        number(each.control_value),
        number(each.variant_value),
        estimate(each.decisive),
        lift(each),
        tested(each.decisive),
        finding(each, alpha),
    )


def tables_of_preference(found: Interleaving) -> tuple[ReportTable, ReportTable]:
    """Return the purchases credited to each variant, and their difference per user."""
    always_valid = found.always_valid
    row = (
        found.variant,
        estimate(found.difference),
        tested(found.difference),
        stopping(always_valid),
        tested(always_valid),
    )
    credits = tuple((key, number(n)) for key, n in found.credits.items())
    return (
        ReportTable("Purchases", ("Variant", "Purchases of its sales"), credits),
        ReportTable(
            "Purchases per user, minus control", ("Variant", "Difference", "p", "Always-valid interval", "p"), (row,)
        ),
    )


def table_of_checks(health: HealthResult, srm_alpha: float) -> ReportTable:
    """Return the checks that make a result invalid if they fail."""
    most = percent(MOST_ASTRAY)
    rows = (
        (
            "Sample ratio mismatch, p valid at daily looks",
            p_value(health.sequential_sample_ratio_p),
            f"at least {number(srm_alpha)}",
        ),
        (
            "The same, p valid at a single look",
            p_value(health.sample_ratio_p),
            "for information",
        ),
        (
            "Users in more than one variant (jumpers)",
            f"{health.jumpers:,} ({percent(health.jumper_share)})",
            f"at most {most}",
        ),
        (
            "Users served another variant than their assigned one",
            f"{health.mismatches:,} of {health.recomputed:,} checked",
            f"at most {most}",
        ),
    )
    return ReportTable("Checks", ("Check", "Found", "Limit"), rows)


def table_of_users(result: Result) -> ReportTable:
    """Return the users of each variant beside its weight."""
    weights, users = {each.key: each.weight for each in result.variants}, result.health.users
    total = sum(users.values())
    counted = users if result.type == "interleave" else {key: users.get(key, 0) for key in weights}
    rows = tuple(
        (key, f"{n:,}", percent(n / total if total else None), percent(weights.get(key))) for key, n in counted.items()
    )
    return ReportTable("Users by variant", ("Variant", "Users", "Share", "Weight"), rows)


def table_of_pages(health: HealthResult) -> ReportTable:
    """Return the pages of each variant by reason, and the share of fallbacks."""
    reasons = sorted({reason for counts in health.pages.values() for reason in counts})
    rows = tuple(
        (
            variant or "none",
            *(f"{counts.get(reason, 0):,}" for reason in reasons),
            percent(health.fallback_share.get(variant)),
        )
        for variant, counts in health.pages.items()
    )
    return ReportTable("Pages by reason", ("Variant", *reasons, "Share of fallbacks"), rows)


def tables_of_origins(health: HealthResult) -> tuple[ReportTable, ReportTable]:
    """Return the pages by configuration, and by variant and model version."""
    configurations = tuple((sha, f"{n:,}") for sha, n in health.configuration_shas.items())
    models = tuple(
        (variant or "none", version or "none", f"{n:,}")
        for variant, counts in health.model_versions.items()
        for version, n in counts.items()
    )
    return (
        ReportTable("Configurations", ("Configuration", "Pages"), configurations),
        ReportTable("Model versions", ("Variant", "Version", "Pages"), models, labels=2),
    )


def _names(columns: str) -> tuple[str, ...]:
    return tuple(columns.split(", "))
