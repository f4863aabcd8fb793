"""From what the job found to the result of an experiment."""

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
    Segment,
    Triggered,
    VariantSummary,
    Window,
)
from recsys.experiments.analysis.verdict import decide
from recsys.experiments.evidence import ALL, EVERYBODY, INTERLEAVED, TRIGGERED, Evidence, Group, Sums
from recsys.experiments.settings import AnalysisSettings, Experiment, Guardrail, Metric, Served

_Totals = Mapping[tuple[str, str], Mapping[str, Sums]]
"""Sums over all days by population and segment, then by variant."""


def analyze(experiment: Experiment, evidence: Evidence, as_of: datetime) -> Result:
    """Judge a phase of an experiment.

    Args:
        experiment: Its settings; the phase is the one that the evidence is of.
        evidence: What was known at `as_of`.
        as_of: Aware; the experiment has ended once the last user's attribution is over.
    """
    totals = _totals(evidence)
    window = _window(experiment, evidence, as_of)
    health = health_result(experiment, evidence.health)
    is_mixed = experiment.type == "interleave"
    comparisons = () if is_mixed else corrected(_comparisons(experiment, totals), experiment.analysis.multiplicity)
    mixed = totals.get((ALL, EVERYBODY), {}).get(INTERLEAVED, Sums())
    interleaving = preference(experiment, mixed) if is_mixed else None
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
        segments=() if is_mixed else tuple(_segments(experiment, totals)),
        daily=() if is_mixed else tuple(_looks(experiment, evidence)),
        triggered=None if is_mixed else _triggered(experiment, totals),
        interleaving=interleaving,
    )


def in_words(served: Served) -> str:
    """Say what is served."""
    exploration = served.exploration
    parts = [
        served.policy,
        f"model {served.model}" if served.model is not None else "",
        "" if served.rules else "without the shop's rules",
        f"drawn at temperature {exploration.temperature:g}, floor {exploration.floor:g}" if exploration else "",
    ]
    return ", ".join(part for part in parts if part)


def _window(experiment: Experiment, evidence: Evidence, as_of: datetime) -> Window:
    last_day = max(evidence.days, default=None)
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


def _totals(evidence: Evidence) -> _Totals:
    parts: dict[tuple[str, str], dict[str, list[Sums]]] = defaultdict(lambda: defaultdict(list))
    for group, sums in evidence.sums.items():
        parts[group.population, group.segment][group.variant].append(sums)
    return {
        users: {variant: Sums.total(days) for variant, days in by_variant.items()}
        for users, by_variant in parts.items()
    }


def _metrics(analysis: AnalysisSettings) -> Iterator[tuple[Role, Metric | Guardrail]]:
    yield from (("primary", metric) for metric in analysis.primary)
    yield from (("secondary", metric) for metric in analysis.secondary)
    yield from (("guardrail", metric) for metric in analysis.guardrails)


def _comparisons(
    experiment: Experiment, totals: _Totals, population: str = ALL, segment: str = EVERYBODY
) -> list[Comparison]:
    sums = totals.get((population, segment), {})
    control = sums.get(experiment.control.key, Sums())
    return [
        compare(metric, role, variant.key, control, sums.get(variant.key, Sums()), experiment.analysis)
        for role, metric in _metrics(experiment.analysis)
        for variant in experiment.variants[1:]
    ]


def _segments(experiment: Experiment, totals: _Totals) -> Iterator[Segment]:
    for segment in sorted(segment for population, segment in totals if population == ALL and segment != EVERYBODY):
        comparisons = _comparisons(experiment, totals, segment=segment)
        primary = tuple(each for each in comparisons if each.role == "primary")
        yield Segment(segment, _users(experiment, totals[ALL, segment]), primary)


def _triggered(experiment: Experiment, totals: _Totals) -> Triggered | None:
    """Compare the users who saw a difference; None where nobody did, or it was not logged."""
    sums = totals.get((TRIGGERED, EVERYBODY))
    if sums is None:
        return None
    users, everybody = _users(experiment, sums), _users(experiment, totals[ALL, EVERYBODY])
    share = sum(users.values()) / sum(everybody.values())
    return Triggered(share, users, tuple(_comparisons(experiment, totals, TRIGGERED)))


def _users(experiment: Experiment, sums: Mapping[str, Sums]) -> dict[str, int]:
    return {variant.key: sums.get(variant.key, Sums()).n for variant in experiment.variants}


def _looks(experiment: Experiment, evidence: Evidence) -> Iterator[Look]:
    """Return what each day's end told, by metric, variant and day; from the first day that tells anything."""
    all_days = evidence.days
    states = {variant.key: _states(evidence, all_days, variant.key) for variant in experiment.variants}
    for _, metric in _metrics(experiment.analysis):
        for variant in experiment.variants[1:]:
            days = zip(all_days, states[experiment.control.key], states[variant.key], strict=True)
            for day, control, treatment in days:
                if found := decisive_contrast(metric, control, treatment, experiment.analysis):
                    always_valid = found.always_valid(experiment.analysis).interval
                    value, interval = found.difference.value, found.difference.interval
                    yield Look(day, metric.name, variant.key, control.n, treatment.n, value, interval, always_valid)


def _states(evidence: Evidence, days: Sequence[date], variant: str) -> list[Sums]:
    """Return a variant's sums as they stood at the end of each day."""
    growth = [evidence.sums.get(Group(ALL, EVERYBODY, day, variant), Sums()) for day in days]
    return list(accumulate(growth))
