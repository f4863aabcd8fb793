"""Analyses one phase of an experiment: from sums over users to the result."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import accumulate

from recsys.experiments.analysis.comparison import compare, corrected
from recsys.experiments.analysis.contrasts import decisive_contrast
from recsys.experiments.analysis.health import health_result
from recsys.experiments.analysis.preference import preference
from recsys.experiments.analysis.results import (
    Comparison,
    Conventions,
    Look,
    Result,
    Role,
    SegmentResult,
    Triggered,
    VariantSummary,
    Window,
)
from recsys.experiments.analysis.verdict import decide
from recsys.experiments.phase_summary import ALL, ALL_USERS, INTERLEAVED, TRIGGERED, Group, PhaseSummary, Sums
from recsys.experiments.settings import AnalysisSettings, Experiment, Guardrail, Metric, Served

_Totals = Mapping[tuple[str, str], Mapping[str, Sums]]
"""Sums over all days, by population and segment, then by variant."""


def analyze(experiment: Experiment, summary: PhaseSummary, as_of: datetime) -> Result:
    """Return the result of one phase of an experiment.

    Args:
        experiment: The settings of the same phase as the summary.
        summary: The sums and health counts known at `as_of`.
        as_of: A time with a time zone. The experiment has ended once the last user's attribution window is over.
    """
    totals = _sum_over_days(summary)
    window = _window(experiment, summary, as_of)
    health = health_result(experiment, summary)
    is_interleaved = experiment.type == "interleave"
    comparisons = (
        () if is_interleaved else corrected(_compare_all(experiment, totals), experiment.analysis.multiplicity)
    )
    interleaved = totals.get((ALL, ALL_USERS), {}).get(INTERLEAVED, Sums())
    interleaving = preference(experiment, interleaved) if is_interleaved else None
    return Result(
        experiment=experiment.key,
        phase=experiment.phase,
        type=experiment.type,
        variants=tuple(VariantSummary(each.key, each.weight, in_words(each)) for each in experiment.variants),
        window=window,
        conventions=_conventions(experiment.analysis),
        health=health,
        verdict=decide(experiment, window, health, comparisons, interleaving),
        comparisons=comparisons,
        segments=() if is_interleaved else tuple(_compare_segments(experiment, totals)),
        daily=() if is_interleaved else tuple(_daily_looks(experiment, summary)),
        triggered=None if is_interleaved else _compare_triggered(experiment, totals),
        interleaving=interleaving,
    )


def in_words(served: Served) -> str:
    """Describe how pages are ordered, for a reader."""
    exploration = served.exploration
    parts = [
        served.policy,
        f"model {served.model}" if served.model is not None else "",
        "" if served.rules else "without the shop's rules",
        f"drawn at temperature {exploration.temperature:g}, floor {exploration.floor:g}" if exploration else "",
        {"live": "ranked live", "snapshot": "ranked by the night's snapshot", None: ""}[served.ranking],
    ]
    return ", ".join(part for part in parts if part)


def _window(experiment: Experiment, summary: PhaseSummary, as_of: datetime) -> Window:
    last_day = max(summary.days, default=None)
    ended = as_of >= experiment.end + experiment.attribution
    return Window(experiment.start, experiment.end, as_of, last_day, ended)


def _conventions(analysis: AnalysisSettings) -> Conventions:
    return Conventions(
        alpha=analysis.alpha,
        power=analysis.power,
        attribution_days=analysis.attribution_days,
        lookback_days=analysis.cuped.lookback_days if analysis.cuped else None,
        multiplicity=analysis.multiplicity,
        srm_alpha=analysis.srm_alpha,
        tune_n=analysis.sequential.tune_n,
    )


def _sum_over_days(summary: PhaseSummary) -> _Totals:
    parts: dict[tuple[str, str], dict[str, list[Sums]]] = defaultdict(lambda: defaultdict(list))
    for group, sums in summary.sums.items():
        parts[group.population, group.segment][group.variant].append(sums)
    return {
        users: {variant: Sums.total(days) for variant, days in by_variant.items()}
        for users, by_variant in parts.items()
    }


def _metrics_by_role(analysis: AnalysisSettings) -> Iterator[tuple[Role, Metric | Guardrail]]:
    yield from (("primary", metric) for metric in analysis.primary)
    yield from (("secondary", metric) for metric in analysis.secondary)
    yield from (("guardrail", metric) for metric in analysis.guardrails)


def _compare_all(
    experiment: Experiment, totals: _Totals, population: str = ALL, segment: str = ALL_USERS
) -> list[Comparison]:
    """Compare each variant with control by each metric."""
    sums = totals.get((population, segment), {})
    control = sums.get(experiment.control.key, Sums())
    return [
        compare(metric, role, variant.key, control, sums.get(variant.key, Sums()), experiment.analysis)
        for role, metric in _metrics_by_role(experiment.analysis)
        for variant in experiment.variants[1:]
    ]


def _compare_segments(experiment: Experiment, totals: _Totals) -> Iterator[SegmentResult]:
    for segment in sorted(segment for population, segment in totals if population == ALL and segment != ALL_USERS):
        comparisons = _compare_all(experiment, totals, segment=segment)
        primary = tuple(each for each in comparisons if each.role == "primary")
        yield SegmentResult(segment, _users_by_variant(experiment, totals[ALL, segment]), primary)


def _compare_triggered(experiment: Experiment, totals: _Totals) -> Triggered | None:
    """Compare the triggered users, whose page depended on the variant; None without such users, or if not logged."""
    sums = totals.get((TRIGGERED, ALL_USERS))
    if sums is None:
        return None
    triggered, analysed = _users_by_variant(experiment, sums), _users_by_variant(experiment, totals[ALL, ALL_USERS])
    share = sum(triggered.values()) / sum(analysed.values())
    return Triggered(share, triggered, tuple(_compare_all(experiment, totals, TRIGGERED)))


def _users_by_variant(experiment: Experiment, sums: Mapping[str, Sums]) -> dict[str, int]:
    return {variant.key: sums.get(variant.key, Sums()).n for variant in experiment.variants}


def _daily_looks(experiment: Experiment, summary: PhaseSummary) -> Iterator[Look]:
    """Yield the state at the end of each day, by metric, variant and day, from the first day that can be compared."""
    all_days = summary.days
    states = {variant.key: _cumulative_sums(summary, all_days, variant.key) for variant in experiment.variants}
    for _, metric in _metrics_by_role(experiment.analysis):
        for variant in experiment.variants[1:]:
            days = zip(all_days, states[experiment.control.key], states[variant.key], strict=True)
            for day, control, treatment in days:
                if found := decisive_contrast(metric, control, treatment, experiment.analysis):
                    always_valid = found.always_valid(experiment.analysis).interval
                    value, interval = found.difference.value, found.difference.interval
                    can_tell = found.evidence.is_enough
                    users = (control.n, treatment.n)
                    yield Look(day, metric.name, variant.key, *users, value, interval, always_valid, can_tell)


def _cumulative_sums(summary: PhaseSummary, days: Sequence[date], variant: str) -> list[Sums]:
    """Return a variant's sums as of the end of each day."""
    growth = [summary.sums.get(Group(ALL, ALL_USERS, day, variant), Sums()) for day in days]
    return list(accumulate(growth))
