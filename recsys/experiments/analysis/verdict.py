"""From figures to what to do.

invalid: the set-up is broken. running: outcomes are still to come, and no always-valid interval settles it yet.
ship: at least one primary metric is better, none is worse, and all guardrails hold. no-ship: a primary metric is worse,
or a guardrail is violated. inconclusive: neither, with what could have been seen. A comparison of a policy with itself
can ship nothing: where it is sound it ends as inconclusive, and says so.
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
    preference_sentence,
    unseen_sentence,
)
from recsys.experiments.settings import AnalysisSettings, Experiment

FEWEST_USERS = 100
"""With fewer in a variant nothing is decided: skewed sums of so few users are far from normal."""


def decide(
    experiment: Experiment,
    window: Window,
    health: HealthResult,
    comparisons: Sequence[Comparison],
    interleaving: Interleaving | None,
) -> Verdict:
    """Return the verdict.

    Args:
        experiment: Its settings.
        window: Whether it has ended.
        health: What may be wrong.
        comparisons: Those of all users, p values corrected; none when interleaved.
        interleaving: The preference; None otherwise.
    """
    if broken := tuple(invalidations(health, experiment.analysis.srm_alpha)):
        return Verdict("invalid", (*broken, "No difference can be trusted."))
    if window.ended:
        return _judged(experiment, comparisons, interleaving)
    at_any_time = [_at_any_time(each) for each in comparisons]
    early = _judged(experiment, at_any_time, interleaving and _preference_at_any_time(interleaving))
    if early.name in ("ship", "no-ship"):
        return replace(early, reasons=(*early.reasons, "This holds at any time: the experiment may be stopped."))
    over = experiment.end + experiment.attribution
    users = sum(health.users.values())
    return Verdict("running", (f"{users:,} users so far; what they do counts until {over:%Y-%m-%d %H:%M} UTC.",))


def _judged(experiment: Experiment, comparisons: Sequence[Comparison], interleaving: Interleaving | None) -> Verdict:
    if interleaving is not None:
        return _of_preference(interleaving, experiment.analysis)
    if experiment.type == "aa":
        return _of_same(comparisons, experiment.analysis)
    by_variant = [[each for each in comparisons if each.variant == variant.key] for variant in experiment.variants[1:]]
    return _best([_of_variant(each, experiment.analysis) for each in by_variant])


def _of_variant(comparisons: Sequence[Comparison], analysis: AnalysisSettings) -> Verdict:
    primary = [each for each in comparisons if each.role == "primary"]
    guards = [each for each in comparisons if each.role == "guardrail"]
    if few := _too_few(primary[0].variant, primary[0].control_users, primary[0].variant_users):
        return few
    shown = [each for each in primary if _is_shown(each, analysis.alpha)]
    better = [each for each in shown if each.decisive and each.improves(each.decisive.value)]
    worse = [each for each in shown if each not in better]
    violated = [each for each in guards if each.guard and each.guard.state == "violated"]
    unsure = [each for each in guards if each.guard is None or each.guard.state == "open"]
    if worse or violated:
        return Verdict("no-ship", (*map(difference_sentence, worse), *map(guard_sentence, violated)))
    if better and not unsure:
        holding = (guard_sentence(each) for each in guards)
        return Verdict("ship", (*map(difference_sentence, better), *holding), primary[0].variant)
    unseen = (unseen_sentence(each, analysis) for each in primary if each not in better)
    return Verdict("inconclusive", (*map(difference_sentence, better), *unseen, *map(guard_sentence, unsure)))


def _best(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict over all variants: of those that may be shipped, the first in the file."""
    reasons = tuple(reason for each in verdicts for reason in each.reasons)
    shippable = next((each for each in verdicts if each.name == "ship"), None)
    if shippable is not None:
        return replace(shippable, reasons=reasons)
    is_none_left = all(each.name == "no-ship" for each in verdicts)
    return Verdict("no-ship" if is_none_left else "inconclusive", reasons)


def _of_same(comparisons: Sequence[Comparison], analysis: AnalysisSettings) -> Verdict:
    """Judge a comparison of a policy with itself: any difference is chance, or a fault."""
    differing = [each for each in comparisons if each.role == "primary" and _is_shown(each, analysis.alpha)]
    reasons = tuple(map(difference_sentence, differing))
    if any(_is_shown(each, analysis.srm_alpha) for each in differing):
        return Verdict("invalid", (*reasons, "Variants that serve the same must not differ so: the set-up is faulty."))
    if differing:
        chance = f"{analysis.alpha:.0%} of sound set-ups look so: run it once more."
        return Verdict("inconclusive", (*reasons, f"The variants serve the same. {chance}"))
    return Verdict("inconclusive", ("The set-up is sound: users split by the weights, and no primary metric differs.",))


def _of_preference(found: Interleaving, analysis: AnalysisSettings) -> Verdict:
    if few := _too_few(found.variant, found.users):
        return few
    difference, reason = found.difference, preference_sentence(found)
    if difference is None or difference.p > analysis.alpha:
        return Verdict("inconclusive", (reason,))
    return Verdict("ship", (reason,), found.variant) if difference.value > 0 else Verdict("no-ship", (reason,))


def _is_shown(comparison: Comparison, alpha: float) -> bool:
    return comparison.adjusted_p is not None and comparison.adjusted_p <= alpha


def _too_few(variant: str, *users: int) -> Verdict | None:
    if min(users) >= FEWEST_USERS:
        return None
    return Verdict(
        "inconclusive", (f"{variant}: {min(users):,} users are too few; at least {FEWEST_USERS} a variant.",)
    )


def _at_any_time(comparison: Comparison) -> Comparison:
    """Return a comparison that is judged by its always-valid interval."""
    decisive, always_valid, guarded = comparison.decisive, comparison.always_valid, comparison.guard
    if decisive is None or always_valid is None:
        return comparison
    difference = _with_interval(decisive, always_valid)
    if guarded is not None:
        guarded = guard(difference, comparison.direction, guarded.margin)
    return replace(comparison, plain=difference, cuped=None, adjusted_p=always_valid.adjusted_p, guard=guarded)


def _preference_at_any_time(found: Interleaving) -> Interleaving:
    if found.difference is None or found.always_valid is None:
        return found
    return replace(found, difference=_with_interval(found.difference, found.always_valid))


def _with_interval(difference: Difference, always_valid: AlwaysValid) -> Difference:
    return Difference(difference.value, always_valid.interval, always_valid.p)
