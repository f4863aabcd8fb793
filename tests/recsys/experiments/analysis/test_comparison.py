from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import false_discovery_control
from tea_tasting.aggr import Aggregates
from tea_tasting.metrics import Mean

from recsys.experiments.analysis.comparison import adjusted_p, compare, corrected, guard
from recsys.experiments.analysis.results import Comparison, Difference, Interval
from tests.helpers.judged_experiments import FALLBACK_RATE, PURCHASES, REVENUE, experiment, moments_of, sums_of

PS = [0.118, 0.0211, 0.0213, 0.00218]


def test_holm_agrees_with_a_published_example() -> None:
    assert adjusted_p(PS, "holm") == pytest.approx([0.118, 0.0633, 0.0633, 0.00872])


def test_benjamini_hochberg_agrees_with_a_published_example() -> None:
    assert adjusted_p(PS, "benjamini_hochberg") == pytest.approx([0.118, 0.0284, 0.0284, 0.00872])
    assert adjusted_p(PS, "benjamini_hochberg") == pytest.approx(false_discovery_control(PS))


def test_p_values_stay_without_correction_and_never_exceed_1() -> None:
    assert adjusted_p(PS, "none") == PS
    assert adjusted_p([], "holm") == []
    assert adjusted_p([0.9, 0.7], "holm") == [1.0, 1.0]


@pytest.mark.parametrize(
    ("direction", "low", "high", "worst", "state"),
    [
        ("lower", -0.002, 0.004, 0.004, "holds"),
        ("lower", -0.002, 0.005, 0.005, "holds"),  # the margin is inclusive
        ("lower", -0.002, 0.006, 0.006, "open"),
        ("lower", 0.006, 0.009, 0.009, "violated"),
        ("higher", -0.004, 0.050, -0.004, "holds"),
        ("higher", -0.006, 0.050, -0.006, "open"),
        ("higher", -0.009, -0.006, -0.009, "violated"),
    ],
)
def test_guardrail_holds_if_the_worst_end_of_the_interval_is_within_the_margin(
    direction: str, low: float, high: float, worst: float, state: str
) -> None:
    found = guard(Difference(0.0, Interval(low, high), 0.5), direction, 0.005)  # type: ignore[arg-type]
    assert (found.worst, found.state) == (worst, state)


def compared(**changes: object) -> Comparison:
    random = np.random.default_rng(3)
    analysis = experiment(**changes).analysis  # type: ignore[arg-type]
    past = [random.poisson(2, n) for n in (300, 210)]
    arms = [sums_of(purchases=each + random.poisson(1, len(each)), pre_purchases=each) for each in past]
    return compare(analysis.primary[0], "primary", "themes", *arms, analysis)


def test_comparison_names_metric_variant_and_users() -> None:
    found = compared()
    assert (found.metric, found.role, found.variant, found.direction) == (
        "purchases_per_user",
        "primary",
        "themes",
        "higher",
    )
    assert (found.control_users, found.variant_users) == (300, 210)
    assert found.control_value is not None
    assert found.variant_value is not None
    assert found.plain is not None
    assert found.plain.value == pytest.approx(found.variant_value - found.control_value)
    assert (found.cuped, found.guard, found.adjusted_p) == (None, None, None)
    assert found.decisive == found.plain


def test_cuped_adjusted_difference_is_decisive() -> None:
    found, unadjusted = compared(cuped={"lookback_days": 28}), compared()
    assert found.cuped is not None
    assert found.decisive == found.cuped
    assert found.plain == unadjusted.plain
    assert found.cuped.variance_reduction == pytest.approx(
        2 / 3, abs=0.08
    )  # variance 2 + 1, of which the covariate explains 2
    assert found.always_valid is not None
    assert unadjusted.always_valid is not None
    assert found.always_valid.interval.high - found.always_valid.interval.low < (
        unadjusted.always_valid.interval.high - unadjusted.always_valid.interval.low
    )
    assert found.detectable is not None
    assert unadjusted.detectable is not None
    assert found.detectable.absolute == pytest.approx(
        unadjusted.detectable.absolute * np.sqrt(1 - found.cuped.variance_reduction)
    )


def test_minimum_detectable_effect_agrees_with_tea_tasting() -> None:
    values = np.repeat([0.0, 1.0, 5.0], [60, 30, 10])
    analysis = experiment(alpha=0.1, power=0.9).analysis
    found = compare(analysis.primary[0], "primary", "themes", *[sums_of(purchases=values)] * 2, analysis)
    both = Aggregates(200, {"x": values.mean()}, {"x": values.var(ddof=1)})
    expected = Mean("x", alpha=0.1, power=0.9, use_t=False).solve_power_from_aggregates(both, "effect_size")[0]
    assert found.detectable is not None
    assert found.detectable.absolute == pytest.approx(
        expected.effect_size, rel=1e-3
    )  # theirs includes rejections on the wrong side
    assert found.detectable.relative == pytest.approx(expected.rel_effect_size, rel=1e-3)


def test_guardrail_is_compared_with_its_margin() -> None:
    analysis = experiment(guardrails=[FALLBACK_RATE]).analysis
    arms = [
        sums_of(fallbacks=[0, 0, 1] * 50, exposures=[4, 9, 7] * 50),
        sums_of(fallbacks=[7] * 80, exposures=[7] * 80),
    ]
    found = compare(analysis.guardrails[0], "guardrail", "themes", *arms, analysis)
    assert found.guard is not None
    assert (found.guard.margin, found.guard.state) == (0.005, "violated")
    assert not found.improves(0.95)


@pytest.mark.parametrize(
    ("users", "fallbacks", "state"),
    [
        (1_000, (0, 0), "holds"),  # a margin of 0.005 of 4,000 pages is 20 fallbacks, which would be seen
        (100, (0, 0), "open"),  # 2 fallbacks of 400 pages would be the margin
        (1_000, (0, 9), "holds"),
        (1_000, (0, 15), "open"),  # too few to tell, and up to 0.0056 is possible
        (1_000, (0, 300), "violated"),
    ],
)
def test_guardrail_with_few_events_holds_where_a_change_by_the_margin_would_be_seen(
    users: int, fallbacks: tuple[int, int], state: str
) -> None:
    analysis = experiment(guardrails=[FALLBACK_RATE]).analysis
    arms = [moments_of(fallbacks=np.arange(users) < count, exposures=np.full(users, 4)) for count in fallbacks]
    found = compare(analysis.guardrails[0], "guardrail", "themes", *arms, analysis)
    assert found.guard is not None
    assert found.guard.state == state


def test_only_primary_metrics_are_corrected() -> None:
    base = compared()
    assert base.always_valid is not None
    comparisons = [
        replace(
            base,
            metric=metric,
            role=role,
            variant=variant,
            plain=Difference(1.0, Interval(0.0, 2.0), p),
            always_valid=replace(base.always_valid, p=2 * p),
        )
        for metric, role, variant, p in [
            ("purchases", "primary", "a", 0.03),
            ("purchases", "primary", "b", 0.02),
            ("revenue", "secondary", "a", 0.001),
            ("fallbacks", "guardrail", "b", 0.9),
        ]
    ]
    found = corrected(comparisons, "holm")
    assert [each.adjusted_p for each in found] == [0.04, 0.04, None, None]
    assert [each.always_valid and each.always_valid.adjusted_p for each in found] == [0.08, 0.08, None, None]


def test_metric_that_cannot_be_compared_has_no_values() -> None:
    analysis = experiment([PURCHASES, REVENUE]).analysis
    arms = [sums_of(purchases=[1, 2, 4], revenue=[5, 9, 7]), sums_of(purchases=[3], revenue=[8])]
    found = corrected([compare(each, "primary", "themes", *arms, analysis) for each in analysis.primary], "holm")
    assert [(each.plain, each.always_valid, each.detectable, each.adjusted_p) for each in found] == [(None,) * 4] * 2
