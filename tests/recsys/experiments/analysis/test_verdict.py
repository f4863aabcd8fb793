from dataclasses import replace
from typing import Literal

from recsys.experiments.analysis.comparison import guard
from recsys.experiments.analysis.health import health_result
from recsys.experiments.analysis.results import (
    AlwaysValid,
    Comparison,
    Detectable,
    Difference,
    Evidence,
    Interleaving,
    Interval,
    Lift,
    Verdict,
    Window,
)
from recsys.experiments.analysis.verdict import decide
from recsys.experiments.settings import Experiment
from tests.helpers.judged_experiments import CONTROL, ENDED_AT, RUNNING_AT, THEMES, experiment, summary_of_users

AB = experiment()
RUNNING = Window(AB.start, AB.end, RUNNING_AT, RUNNING_AT.date(), ended=False)
ENDED = replace(RUNNING, as_of=ENDED_AT, ended=True)
HEALTHY = {"control": 5_000, "themes": 5_000}

BETTER, WORSE, OPEN = Interval(0.02, 0.06), Interval(-0.06, -0.02), Interval(-0.02, 0.06)
NEVER = Interval(-9.0, 9.0)
"""An always-valid interval that is not conclusive yet."""


def primary(
    interval: Interval,
    metric: str = "purchases",
    variant: str = "themes",
    direction: Literal["higher", "lower"] = "higher",
    always_valid: Interval = NEVER,
    adjusted_p: float | None = None,
) -> Comparison:
    """Return a comparison whose p values agree with its intervals."""
    value = (interval.low + interval.high) / 2
    p = 0.2 if 0 in interval else 0.01
    sequential_p = 1.0 if 0 in always_valid else 0.02
    return Comparison(
        metric=metric,
        role="primary",
        direction=direction,
        variant=variant,
        control_users=5_000,
        variant_users=5_000,
        control_value=0.4,
        variant_value=0.4 + value,
        plain=Difference(value, interval, p),
        lift=Lift(value / 0.4, Interval(0.0, 0.2)),
        cuped=None,
        always_valid=AlwaysValid(always_valid, sequential_p, sequential_p),
        detectable=Detectable(0.03, 0.075),
        adjusted_p=p if adjusted_p is None else adjusted_p,
    )


def guardrail(interval: Interval, always_valid: Interval = NEVER) -> Comparison:
    """Return a guardrail for which lower is better, with margin 0.01."""
    base = primary(interval, "fallbacks", direction="lower", always_valid=always_valid)
    assert base.plain is not None
    return replace(base, role="guardrail", adjusted_p=None, guard=guard(base.plain, "lower", 0.01))


def verdict(*comparisons: Comparison, window: Window = ENDED, of: Experiment = AB, **health: object) -> Verdict:
    return decide(of, window, health_result(of, summary_of_users(HEALTHY, **health)), comparisons, None)


def test_better_primary_ships_while_guardrails_hold() -> None:
    found = verdict(primary(BETTER), guardrail(Interval(-0.01, 0.005)))
    assert (found.name, found.variant) == ("ship", "themes")
    assert found.reasons == (
        "purchases of themes is better: +0.04 (+10.0%), interval +0.02 to +0.06, p 0.01.",
        "Guardrail fallbacks of themes holds: -0.0025 (-0.6%), interval -0.01 to +0.005, margin 0.01.",
    )


def test_one_better_primary_is_enough_where_none_is_worse() -> None:
    assert verdict(primary(BETTER), primary(OPEN, "revenue")).name == "ship"


def test_worse_primary_is_not_shipped_even_if_another_is_better() -> None:
    found = verdict(primary(BETTER), primary(WORSE, "revenue"))
    assert (found.name, found.variant) == ("no-ship", None)
    assert found.reasons == ("revenue of themes is worse: -0.04 (-10.0%), interval -0.06 to -0.02, p 0.01.",)


FEW = Evidence(control_nonzero=90, variant_nonzero=2, skewness=0.3, is_enough=False)
SKEWED = Evidence(control_nonzero=900, variant_nonzero=80, skewness=-0.7, is_enough=False)
FEW_SENTENCE = (
    "purchases of themes: too few to tell, the users with a value other than 0 are 90 of control and 2 of themes; about"
    " 10 or more are needed in each. Wait for more users, or choose a more frequent outcome."
)


def test_difference_of_a_handful_of_buyers_neither_ships_nor_stops() -> None:
    for interval in (BETTER, WORSE):
        few = replace(primary(interval, always_valid=interval), evidence=FEW)
        assert verdict(few) == Verdict("inconclusive", (FEW_SENTENCE,))
        running = verdict(few, window=RUNNING)
        assert (running.name, running.reasons[1:]) == ("running", (FEW_SENTENCE,))


def test_difference_that_a_few_large_values_decide_is_inconclusive() -> None:
    found = verdict(replace(primary(WORSE), evidence=SKEWED))
    assert found.name == "inconclusive"
    assert "too skewed to tell" in found.reasons[0]
    assert "(skewness -0.7, at most 0.5)" in found.reasons[0]


def test_guardrail_of_a_handful_of_events_stops_nothing_early() -> None:
    beyond = Interval(0.02, 0.03)
    few = replace(guardrail(beyond, always_valid=beyond), evidence=FEW)
    few = replace(few, guard=replace(few.guard, state="open"))
    assert verdict(primary(OPEN), few, window=RUNNING).name == "running"


def test_same_variants_with_a_handful_of_buyers_are_not_called_sound() -> None:
    same = experiment(type="aa", variants=[CONTROL, THEMES | {"model": "champion"}])
    found = verdict(replace(primary(OPEN), evidence=FEW), of=same)
    assert found == Verdict("inconclusive", ("Users split by the weights.", FEW_SENTENCE))


def test_metric_with_direction_lower_improves_when_it_falls() -> None:
    assert verdict(primary(WORSE, direction="lower")).name == "ship"
    assert verdict(primary(BETTER, direction="lower")).name == "no-ship"


def test_violated_guardrail_is_not_shipped() -> None:
    found = verdict(primary(BETTER), guardrail(Interval(0.02, 0.03)))
    assert found.name == "no-ship"
    assert found.reasons[0].startswith("Guardrail fallbacks of themes is violated: +0.025")


def test_guardrail_that_is_not_shown_to_hold_is_inconclusive() -> None:
    found = verdict(primary(BETTER), guardrail(Interval(-0.01, 0.02)))
    assert found.name == "inconclusive"
    assert found.reasons[1].startswith("Guardrail fallbacks of themes is not shown to hold")
    unknown = replace(guardrail(OPEN), plain=None, guard=None)
    assert verdict(primary(BETTER), unknown).name == "inconclusive"


def test_inconclusive_verdict_gives_the_minimum_detectable_effect() -> None:
    found = verdict(primary(OPEN))
    assert found.name == "inconclusive"
    assert found.reasons == (
        "purchases of themes: no significant difference, +0.02 (+5.0%), interval -0.02 to +0.06;"
        " minimum detectable effect 0.03 (7.5% of control) at 80% power.",
    )


def test_corrected_p_value_decides() -> None:
    assert verdict(primary(BETTER, adjusted_p=0.06)).name == "inconclusive"


def test_too_few_users_are_inconclusive() -> None:
    assert verdict(replace(primary(BETTER), variant_users=100)).name == "ship"
    found = verdict(replace(primary(BETTER), variant_users=99))
    reason = "themes: too few users, 99; at least 100 per variant are needed."
    assert (found.name, found.reasons) == ("inconclusive", (reason,))


def test_running_experiment_is_not_decided_by_the_fixed_interval() -> None:
    found = verdict(primary(BETTER), window=RUNNING)
    assert (found.name, found.variant) == ("running", None)
    assert found.reasons == ("10,000 users so far; their outcomes count until 2026-12-15 00:00 UTC.",)


def test_always_valid_interval_may_stop_a_running_experiment() -> None:
    stopped = verdict(primary(BETTER, always_valid=Interval(0.01, 0.07)), window=RUNNING)
    assert (stopped.name, stopped.variant) == ("ship", "themes")
    assert stopped.reasons == (
        "purchases of themes is better: +0.04 (+10.0%), interval +0.01 to +0.07, p 0.02.",
        "The always-valid interval is conclusive: the experiment may be stopped.",
    )
    assert verdict(primary(WORSE, always_valid=Interval(-0.07, -0.01)), window=RUNNING).name == "no-ship"


def test_guardrails_of_a_running_experiment_are_judged_by_the_always_valid_interval() -> None:
    better = primary(BETTER, always_valid=Interval(0.01, 0.07))
    within, beyond = Interval(-0.002, 0.001), Interval(0.02, 0.03)
    assert verdict(better, guardrail(within), window=RUNNING).name == "running"
    assert verdict(better, guardrail(within, always_valid=Interval(-0.01, 0.009)), window=RUNNING).name == "ship"
    assert verdict(primary(OPEN), guardrail(beyond), window=RUNNING).name == "running"
    assert (
        verdict(primary(OPEN), guardrail(beyond, always_valid=Interval(0.011, 0.04)), window=RUNNING).name == "no-ship"
    )


def test_broken_set_up_is_invalid_whatever_the_comparisons() -> None:
    for window in (RUNNING, ENDED):
        found = verdict(primary(BETTER, always_valid=BETTER), window=window, jumpers=11)
        assert found.name == "invalid"
        assert found.reasons[0].startswith("More than one variant was assigned to 11 users (0.11%)")
        assert found.reasons[-1] == "No difference can be trusted."


def of_three(*comparisons: Comparison) -> Verdict:
    third = THEMES | {"key": "covers", "weight": 0.25}
    three = experiment(variants=[CONTROL, THEMES | {"weight": 0.25}, third])
    users = {"control": 5_000, "themes": 2_500, "covers": 2_500}
    return decide(three, ENDED, health_result(three, summary_of_users(users)), comparisons, None)


def test_one_variant_that_may_be_shipped_is_enough() -> None:
    found = of_three(primary(WORSE), primary(BETTER, variant="covers"))
    assert (found.name, found.variant, len(found.reasons)) == ("ship", "covers", 2)


def test_no_variant_is_shipped_only_where_all_are_refused() -> None:
    assert of_three(primary(WORSE), primary(WORSE, variant="covers")).name == "no-ship"
    assert of_three(primary(WORSE), primary(OPEN, variant="covers")).name == "inconclusive"


def judged_aa(p: float, window: Window = ENDED) -> Verdict:
    return verdict(primary(BETTER, adjusted_p=p), window=window, of=experiment(type="aa"))


def test_aa_test_says_whether_the_set_up_is_sound() -> None:
    sound, chance, faulty = judged_aa(0.3), judged_aa(0.04), judged_aa(0.0009)
    assert (sound.name, sound.reasons[0]) == (
        "inconclusive",
        "The set-up is sound: users split by the weights, and no primary metric differs.",
    )
    assert (chance.name, chance.reasons[-1]) == (
        "inconclusive",
        "The variants serve the same pages. With a sound set-up, this happens in 5% of A/A tests: run it once more.",
    )
    assert faulty.name == "invalid"
    assert judged_aa(0.3, RUNNING).name == "running"


def preferred(
    value: float, p: float, window: Window = ENDED, always_valid: AlwaysValid | None = None, users: int = 900
) -> Verdict:
    mixed = experiment(type="interleave")
    difference = Difference(value, Interval(value - 0.1, value + 0.1), p)
    sequential = always_valid or AlwaysValid(NEVER, 1.0)
    found = Interleaving("themes", users, {"control": 310.0, "themes": 390.0}, difference, sequential)
    return decide(mixed, window, health_result(mixed, summary_of_users({"interleaved": users})), (), found)


def test_preferred_policy_ships() -> None:
    found = preferred(0.3, 0.01)
    assert (found.name, found.variant) == ("ship", "themes")
    assert found.reasons == (
        "Purchases: 310 from control, 390 from themes; +0.3 per user, interval +0.2 to +0.4, p 0.01.",
    )
    assert preferred(-0.3, 0.01).name == "no-ship"
    assert preferred(0.3, 0.2).name == "inconclusive"
    assert preferred(0.3, 0.01, users=99).name == "inconclusive"


def test_preference_is_decided_early_by_the_always_valid_interval_only() -> None:
    assert preferred(0.3, 0.01, RUNNING).name == "running"
    assert preferred(0.3, 0.01, RUNNING, AlwaysValid(Interval(0.1, 0.5), 0.03)).name == "ship"
