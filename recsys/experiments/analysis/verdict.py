"""The verdict of an experiment, from its comparisons and health checks.

invalid: the experiment did not run as configured. running: outcomes are still to come, and no always-valid interval is
conclusive yet. ship: at least one primary metric is better, none is worse, and all guardrails hold. no-ship: a primary
metric is worse, or a guardrail is violated. inconclusive: neither; the minimum detectable effect is given. An A/A test
never ends in ship: if the set-up is sound it ends as inconclusive, and says so.
"""

from collections.abc import Sequence
from dataclasses import replace

from recsys.experiments.analysis.comparison import guard
from recsys.experiments.analysis.health import invalidations
from recsys.experiments.analysis.results import (
    AlwaysValid,
    Comparison,
    Difference,
    HealthResult,
    Interleaving,
    Verdict,
    Window,
)
from recsys.experiments.analysis.sentences import (
    difference_sentence,
    guard_sentence,
    inconclusive_sentence,
    preference_sentence,
    scarcity_sentence,
)
from recsys.experiments.settings import AnalysisSettings, Experiment
from recsys.wording import plural

FEWEST_USERS = 100
"""Fewest users per variant for a verdict: means of skewed outcomes over fewer users are far from normal."""


def decide(
    experiment: Experiment,
    window: Window,
    health: HealthResult,
    comparisons: Sequence[Comparison],
    interleaving: Interleaving | None,
) -> Verdict:
    """Return the verdict.

    Args:
        experiment: The settings.
        window: The period and whether it has ended.
        health: The health checks.
        comparisons: The comparisons over all users, with corrected p values; none for interleaving.
        interleaving: The preference of an interleaving experiment; otherwise None.
    """
    if problems := tuple(invalidations(health, experiment.analysis.srm_alpha)):
        return Verdict("invalid", (*problems, "No difference can be trusted."))
    if window.ended:
        return _judge(experiment, comparisons, interleaving)
    always_valid = [_with_always_valid(each) for each in comparisons]
    early = _judge(experiment, always_valid, interleaving and _preference_with_always_valid(interleaving))
    if early.name in ("ship", "no-ship"):
        reason = "The always-valid interval is conclusive: the experiment may be stopped."
        return replace(early, reasons=(*early.reasons, reason))
    over = experiment.end + experiment.attribution
    users = plural(sum(health.users.values()), "user")
    so_far = f"{users} so far; their outcomes count until {over:%Y-%m-%d %H:%M} UTC."
    scarce = (scarcity_sentence(each) for each in comparisons if each.role == "primary" and not each.can_tell)
    return Verdict("running", (so_far, *scarce))


def _judge(experiment: Experiment, comparisons: Sequence[Comparison], interleaving: Interleaving | None) -> Verdict:
    if interleaving is not None:
        return _judge_preference(interleaving, experiment.analysis)
    if experiment.type == "aa":
        return _judge_aa(comparisons, experiment.analysis)
    by_variant = [[each for each in comparisons if each.variant == variant.key] for variant in experiment.variants[1:]]
    return _combine([_judge_variant(each, experiment.analysis) for each in by_variant])


def _judge_variant(comparisons: Sequence[Comparison], analysis: AnalysisSettings) -> Verdict:
    primary = [each for each in comparisons if each.role == "primary"]
    guards = [each for each in comparisons if each.role == "guardrail"]
    if few := _too_few_users(primary[0].variant, primary[0].control_users, primary[0].variant_users):
        return few
    significant = [each for each in primary if _is_significant(each, analysis.alpha)]
    better = [each for each in significant if each.decisive and each.improves(each.decisive.value)]
    worse = [each for each in significant if each not in better]
    violated = [each for each in guards if each.guard and each.guard.state == "violated"]
    unsure = [each for each in guards if each.guard is None or each.guard.state == "open"]
    if worse or violated:
        return Verdict("no-ship", (*map(difference_sentence, worse), *map(guard_sentence, violated)))
    if better and not unsure:
        holding = (guard_sentence(each) for each in guards)
        return Verdict("ship", (*map(difference_sentence, better), *holding), primary[0].variant)
    others = (inconclusive_sentence(each, analysis) for each in primary if each not in better)
    return Verdict("inconclusive", (*map(difference_sentence, better), *others, *map(guard_sentence, unsure)))


def _combine(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict over all variants; if several may be shipped, the first in the file is."""
    reasons = tuple(reason for each in verdicts for reason in each.reasons)
    shippable = next((each for each in verdicts if each.name == "ship"), None)
    if shippable is not None:
        return replace(shippable, reasons=reasons)
    all_worse = all(each.name == "no-ship" for each in verdicts)
    return Verdict("no-ship" if all_worse else "inconclusive", reasons)


def _judge_aa(comparisons: Sequence[Comparison], analysis: AnalysisSettings) -> Verdict:
    """Judge an A/A test: a significant difference is a false positive, or a fault of the set-up."""
    differing = [each for each in comparisons if each.role == "primary" and _is_significant(each, analysis.alpha)]
    reasons = tuple(map(difference_sentence, differing))
    if any(_is_significant(each, analysis.srm_alpha) for each in differing):
        fault = "Variants that serve the same pages must not differ by this much: the set-up is faulty."
        return Verdict("invalid", (*reasons, fault))
    if differing:
        chance = f"With a sound set-up, this happens in {analysis.alpha:.0%} of A/A tests: run it once more."
        return Verdict("inconclusive", (*reasons, f"The variants serve the same pages. {chance}"))
    scarce = tuple(scarcity_sentence(each) for each in comparisons if each.role == "primary" and not each.can_tell)
    if scarce:
        return Verdict("inconclusive", ("Users split by the weights.", *scarce))
    return Verdict("inconclusive", ("The set-up is sound: users split by the weights, and no primary metric differs.",))


def _judge_preference(interleaving: Interleaving, analysis: AnalysisSettings) -> Verdict:
    if few := _too_few_users(interleaving.variant, interleaving.users):
        return few
    difference, reason = interleaving.difference, preference_sentence(interleaving)
    if difference is None or not interleaving.can_tell or difference.p > analysis.alpha:
        return Verdict("inconclusive", (reason,))
    return Verdict("ship", (reason,), interleaving.variant) if difference.value > 0 else Verdict("no-ship", (reason,))


def _is_significant(comparison: Comparison, alpha: float) -> bool:
    return comparison.can_tell and comparison.adjusted_p is not None and comparison.adjusted_p <= alpha


def _too_few_users(variant: str, *users: int) -> Verdict | None:
    if min(users) >= FEWEST_USERS:
        return None
    reason = f"{variant}: too few users, {min(users):,}; at least {FEWEST_USERS} per variant are needed."
    return Verdict("inconclusive", (reason,))


def _with_always_valid(comparison: Comparison) -> Comparison:
    """Return the comparison with the always-valid interval and p value in place of the fixed ones."""
    decisive, always_valid, guarded = comparison.decisive, comparison.always_valid, comparison.guard
    if decisive is None or always_valid is None:
        return comparison
    difference = _always_valid_difference(decisive, always_valid)
    if guarded is not None:
        stopping = guard(difference, comparison.direction, guarded.margin)
        both_hold = guarded.state == stopping.state == "holds"
        guarded = stopping if comparison.can_tell or both_hold else replace(stopping, state="open")
    return replace(comparison, plain=difference, cuped=None, adjusted_p=always_valid.adjusted_p, guard=guarded)


def _preference_with_always_valid(interleaving: Interleaving) -> Interleaving:
    difference, always_valid = interleaving.difference, interleaving.always_valid
    if difference is None or always_valid is None:
        return interleaving
    return replace(interleaving, difference=_always_valid_difference(difference, always_valid))


def _always_valid_difference(difference: Difference, always_valid: AlwaysValid) -> Difference:
    return Difference(difference.value, always_valid.interval, always_valid.p)
