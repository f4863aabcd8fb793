from datetime import date, timedelta

import numpy as np
import pytest
from scipy.stats import ttest_ind

from recsys.experiments.analysis.analyze import analyze, in_words
from recsys.experiments.analysis.results import Result
from recsys.experiments.phase_summary import ALL, ALL_USERS, TRIGGERED, Group, PhaseSummary, Sums
from recsys.experiments.settings import Variant
from tests.helpers.judged_experiments import (
    CONTROL,
    DAY,
    ENDED_AT,
    FALLBACK_RATE,
    PURCHASES,
    REVENUE,
    RUNNING_AT,
    THEMES,
    VISIT_RATE,
    experiment,
    healthy,
    summary_of,
    sums_of,
)


def users(n: int, seed: int, effect: float = 0.0) -> dict[str, np.ndarray]:
    """Return columns of n users; `effect` is added to the probability that a visit leads to a purchase."""
    random = np.random.default_rng(seed)
    exposures = random.integers(1, 12, n)
    taste = random.beta(2, 5, n)
    visits = random.binomial(exposures, taste)
    purchases = random.binomial(visits, 0.3 + effect)
    pre_purchases = random.binomial(random.integers(1, 12, n), 0.3 * taste)
    spent = random.lognormal(3, 0.7, (2, n))
    return {
        "purchases": purchases,
        "revenue": purchases * spent[0],
        "visits": visits,
        "exposures": exposures,
        "fallbacks": np.zeros(n),
        "pre_purchases": pre_purchases,
        "pre_revenue": pre_purchases * spent[1],
    }


FULL = {
    "primary": [PURCHASES],
    "secondary": [REVENUE, VISIT_RATE],
    "guardrails": [FALLBACK_RATE],
    "cuped": {"lookback_days": 28},
}


def analyzed(control: dict, treatment: dict, **settings: object) -> Result:
    summary = summary_of({"control": sums_of(**control), "themes": sums_of(**treatment)})
    return analyze(experiment(**(FULL | settings)), summary, ENDED_AT)  # type: ignore[arg-type]


def test_better_variant_ships() -> None:
    found = analyzed(users(3000, 1), users(3200, 2, effect=0.1))
    assert (found.verdict.name, found.verdict.variant) == ("ship", "themes")
    assert [(each.metric, each.role) for each in found.comparisons] == [
        ("purchases_per_user", "primary"),
        ("revenue_per_user", "secondary"),
        ("visit_rate", "secondary"),
        ("fallback_rate", "guardrail"),
    ]
    assert [each.cuped is not None for each in found.comparisons] == [True, True, False, False]
    assert found.health.users == {"control": 3000, "themes": 3200}


def test_worse_variant_does_not_ship() -> None:
    assert analyzed(users(3000, 1), users(3200, 2, effect=-0.1)).verdict.name == "no-ship"


def test_better_variant_with_too_many_fallbacks_does_not_ship() -> None:
    treatment = users(3200, 2, effect=0.1)
    treatment["fallbacks"] = np.random.default_rng(3).binomial(treatment["exposures"], 0.05).astype(float)
    found = analyzed(users(3000, 1), treatment)
    assert found.verdict.name == "no-ship"
    assert found.verdict.reasons[0].startswith("Guardrail fallback_rate of themes is violated")


def test_same_variants_are_inconclusive() -> None:
    assert analyzed(users(3000, 1), users(3100, 2)).verdict.name == "inconclusive"


def test_losing_two_percent_of_a_variant_is_invalid() -> None:
    control, treatment = users(100_000, 1), users(100_000, 2)
    is_logged = np.random.default_rng(3).random(100_000) >= 0.02
    found = analyzed(control, {name: values[is_logged] for name, values in treatment.items()})
    assert analyzed(control, treatment).verdict.name == "inconclusive"
    assert found.verdict.name == "invalid"
    assert found.verdict.reasons[0].startswith(
        "Sample ratio mismatch: users do not split by the weights: 100,000 of control"
    )


@pytest.mark.parametrize(("before_end", "ended"), [(timedelta(), True), (timedelta(microseconds=1), False)])
def test_experiment_ends_with_the_last_attribution_window(before_end: timedelta, ended: bool) -> None:
    found = analyze(experiment(), summary_of({"control": sums_of(purchases=[1, 0])}), ENDED_AT - before_end)
    assert (found.window.ended, found.window.last_day) == (ended, DAY)
    assert found.verdict.name == ("inconclusive" if ended else "running")


def test_phase_without_users_has_an_empty_result() -> None:
    found = analyze(experiment(cuped={}), PhaseSummary({}, healthy({})), RUNNING_AT)
    assert (found.verdict.name, found.window.last_day, found.daily, found.triggered) == ("running", None, (), None)
    assert (found.comparisons[0].control_value, found.comparisons[0].decisive) == (None, None)
    assert Result.from_json(found.to_json()) == found


def by_day(growth: dict[tuple[date, str], Sums]) -> PhaseSummary:
    sums = {Group(ALL, ALL_USERS, day, variant): each for (day, variant), each in growth.items()}
    return PhaseSummary(sums, healthy({"control": 5, "themes": 4}))


def test_daily_looks_are_as_of_the_end_of_each_day() -> None:
    later = DAY + timedelta(days=2)
    # a user of control without purchases on the first day has 2 later: their square grows by 4
    summary = by_day(
        {
            (DAY, "control"): sums_of(purchases=[0, 1, 3]),
            (DAY, "themes"): sums_of(purchases=[1, 2]),
            (later, "control"): sums_of(purchases=[1, 0]) + Sums(0, {"purchases": 2}, {("purchases", "purchases"): 4}),
            (later, "themes"): sums_of(purchases=[5, 2]),
        }
    )
    found = analyze(experiment(), summary, RUNNING_AT)
    first, second = found.daily
    expected = ttest_ind([1, 2, 5, 2], [2, 1, 3, 1, 0], equal_var=False)
    assert (first.day, first.control_users, first.variant_users) == (DAY, 3, 2)
    assert first.difference == pytest.approx(1.5 - 4 / 3)
    assert (second.day, second.control_users, second.variant_users) == (later, 5, 4)
    assert (second.metric, second.variant) == ("purchases_per_user", "themes")
    interval = expected.confidence_interval(0.95)
    assert (second.interval.low, second.interval.high) == pytest.approx((interval.low, interval.high))
    final = found.comparisons[0]
    assert final.plain is not None
    assert final.always_valid is not None
    assert (second.difference, second.interval, second.always_valid) == (
        final.plain.value,
        final.plain.interval,
        final.always_valid.interval,
    )


def test_day_without_users_of_a_variant_is_left_out() -> None:
    later = DAY + timedelta(days=1)
    summary = by_day(
        {
            (DAY, "control"): sums_of(purchases=[0, 1, 3]),
            (later, "themes"): sums_of(purchases=[1, 2]),
        }
    )
    assert [look.day for look in analyze(experiment(), summary, RUNNING_AT).daily] == [later]


def test_segments_and_triggered_users_are_compared_separately() -> None:
    parts = {
        (ALL, ALL_USERS): (users(900, 1), users(700, 2)),
        (ALL, "country=FR"): (users(200, 3), users(150, 4)),
        (ALL, "country=DE"): (users(700, 5), users(550, 6)),
        (TRIGGERED, ALL_USERS): (users(90, 7), users(70, 8)),
    }
    sums = {
        Group(*part, DAY, variant): sums_of(**columns)
        for part, columns_of in parts.items()
        for variant, columns in zip(("control", "themes"), columns_of, strict=True)
    }
    found = analyze(experiment(**FULL), PhaseSummary(sums, healthy({"control": 900, "themes": 700})), ENDED_AT)
    assert [(each.name, each.users) for each in found.segments] == [
        ("country=DE", {"control": 700, "themes": 550}),
        ("country=FR", {"control": 200, "themes": 150}),
    ]
    [of_france] = found.segments[1].comparisons
    assert (of_france.metric, of_france.role, of_france.adjusted_p) == ("purchases_per_user", "primary", None)
    assert of_france.control_value == parts[ALL, "country=FR"][0]["purchases"].mean()
    assert found.triggered is not None
    assert (found.triggered.share, found.triggered.users) == (160 / 1600, {"control": 90, "themes": 70})
    assert len(found.triggered.comparisons) == len(found.comparisons) == 4
    assert found.triggered.comparisons[0].variant_value == parts[TRIGGERED, ALL_USERS][1]["purchases"].mean()
    assert found.comparisons[0].control_value == parts[ALL, ALL_USERS][0]["purchases"].mean()


def test_primary_metrics_of_all_variants_are_corrected_together() -> None:
    variants = [CONTROL | {"weight": 0.4}, THEMES | {"weight": 0.3}, THEMES | {"key": "covers", "weight": 0.3}]
    summary = summary_of(
        {
            "control": sums_of(**users(400, 1)),
            "themes": sums_of(**users(300, 2, 0.08)),
            "covers": sums_of(**users(300, 3)),
        }
    )
    found = analyze(experiment([PURCHASES, REVENUE], variants=variants), summary, ENDED_AT)
    plain = [each.plain.p for each in found.comparisons if each.plain]
    assert [(each.metric, each.variant) for each in found.comparisons] == [
        ("purchases_per_user", "themes"),
        ("purchases_per_user", "covers"),
        ("revenue_per_user", "themes"),
        ("revenue_per_user", "covers"),
    ]
    smallest = min(range(4), key=lambda index: plain[index])
    assert found.comparisons[smallest].adjusted_p == pytest.approx(4 * plain[smallest])


def test_interleaved_experiment_is_judged_by_its_credits() -> None:
    random = np.random.default_rng(7)
    credits = {"credit_control": random.poisson(0.2, 800), "credit_themes": random.poisson(0.4, 800)}
    mixed = experiment(type="interleave")
    found = analyze(mixed, summary_of({"interleaved": sums_of(**credits, purchases=np.ones(800))}), ENDED_AT)
    assert (found.verdict.name, found.verdict.variant) == ("ship", "themes")
    assert (found.comparisons, found.daily, found.segments, found.triggered) == ((), (), (), None)
    assert found.interleaving is not None
    assert found.interleaving.credits == {
        "control": credits["credit_control"].sum(),
        "themes": credits["credit_themes"].sum(),
    }
    assert Result.from_json(found.to_json()) == found


def test_result_contains_its_settings() -> None:
    found = analyzed(users(300, 1), users(320, 2), alpha=0.1, multiplicity="none")
    conventions = found.conventions
    assert (conventions.alpha, conventions.multiplicity, conventions.lookback_days) == (0.1, "none", 28)
    assert [(each.key, each.serves) for each in found.variants] == [
        ("control", "meta, model champion"),
        ("themes", "meta, model challenger"),
    ]
    assert Result.from_json(found.to_json()) == found


def test_variant_is_described_in_words() -> None:
    variant = {"key": "drawn", "weight": 0.5, "policy": "popularity", "rules": False}
    drawn = Variant.model_validate(variant | {"exploration": {"temperature": 2.0, "floor": 0.1}})
    assert in_words(Variant.model_validate(variant)) == "popularity, without the shop's rules"
    assert in_words(drawn) == "popularity, without the shop's rules, drawn at temperature 2, floor 0.1"
    kinds = [
        in_words(Variant.model_validate({**variant, "rules": True, "ranking": each})) for each in ("live", "snapshot")
    ]
    assert kinds == ["popularity, ranked live", "popularity, ranked by the night's snapshot"]
