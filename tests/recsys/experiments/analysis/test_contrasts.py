import numpy as np
import pytest
from scipy.stats import ttest_ind
from tea_tasting.metrics import Mean, RatioOfMeans

from recsys.experiments.analysis.contrasts import (
    Contrast,
    _aggregates,
    contrast,
    covariate_columns,
    cuped_contrast,
    decisive_contrast,
    lift,
    user_variance,
    value,
)
from recsys.experiments.analysis.results import Difference, Interval
from recsys.experiments.phase_summary import Sums
from recsys.experiments.settings import AnalysisSettings, Metric, RatioSettings
from tests.helpers.judged_experiments import (
    FALLBACK_RATE,
    PURCHASES,
    REVENUE,
    VISIT_RATE,
    experiment,
    moments_of,
    sums_of,
)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(20)


def metric(settings: dict) -> Metric:
    return experiment([settings]).analysis.primary[0]


def with_cuped(settings: dict) -> tuple[Metric, AnalysisSettings]:
    analysis = experiment([settings], cuped={"lookback_days": 28}).analysis
    return analysis.primary[0], analysis


def found(result: Contrast | None) -> Contrast:
    assert result is not None
    return result


def test_difference_interval_and_p_agree_with_a_published_example() -> None:
    control = Sums(3407, {"revenue": 1396.87}, {("revenue", "revenue"): 52377.9767})
    treatment = Sums(3461, {"revenue": 2422.7}, {("revenue", "revenue"): 134698.29})
    difference = found(contrast(metric(REVENUE), control, treatment, 0.05)).difference
    assert difference.value == pytest.approx(0.29)
    assert (difference.interval.low, difference.interval.high) == pytest.approx((0.045378, 0.534622), abs=5e-7)
    assert difference.p == pytest.approx(0.0201584, abs=5e-8)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_mean_is_compared_by_welchs_test(random: np.random.Generator, alpha: float) -> None:
    control, treatment = random.exponential(9, 40), random.exponential(13, 25)
    result = found(contrast(metric(REVENUE), sums_of(revenue=control), sums_of(revenue=treatment), alpha))
    expected = ttest_ind(treatment, control, equal_var=False)
    interval = expected.confidence_interval(1 - alpha)
    assert result.difference.p == pytest.approx(expected.pvalue)
    assert (result.difference.interval.low, result.difference.interval.high) == pytest.approx(
        (interval.low, interval.high)
    )
    assert result.standard_error == pytest.approx(np.sqrt(control.var(ddof=1) / 40 + treatment.var(ddof=1) / 25))
    assert result.n == 65


def test_lift_is_the_ratio_of_the_means() -> None:
    result = lift(metric(PURCHASES), sums_of(purchases=[1, 1, 2]), sums_of(purchases=[2, 3, 1, 2]), 0.05)
    assert result is not None
    assert result.value == pytest.approx(2 / (4 / 3) - 1)
    assert result.interval.low < 0.5 < result.interval.high


def test_variance_of_a_ratio_is_that_between_users_not_pages(random: np.random.Generator) -> None:
    exposures = [random.integers(1, 30, n) for n in (300, 420)]
    visits = [random.binomial(pages, random.beta(1, 3, len(pages))) for pages in exposures]
    sums = [sums_of(visits=v, exposures=e) for v, e in zip(visits, exposures, strict=True)]
    result = found(contrast(metric(VISIT_RATE), *sums, alpha=0.05))
    rates = [v.sum() / e.sum() for v, e in zip(visits, exposures, strict=True)]
    # the delta method is the plain test of the linearised values of each user
    parts = [(v - rate * e) / e.mean() for v, e, rate in zip(visits, exposures, rates, strict=True)]
    error = np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts))
    assert result.difference.value == pytest.approx(rates[1] - rates[0])
    assert result.standard_error == pytest.approx(error)
    by_pages = np.sqrt(sum(rate * (1 - rate) / e.sum() for rate, e in zip(rates, exposures, strict=True)))
    assert error > 1.5 * by_pages


def correlated(random: np.random.Generator, n: int, correlation: float, effect: float) -> dict[str, np.ndarray]:
    past = random.normal(5, 2, n)
    noise = random.normal(0, 2, n)
    return {"revenue": effect + correlation * past + np.sqrt(1 - correlation**2) * noise, "pre_revenue": past}


def test_cuped_is_welchs_test_of_the_adjusted_outcomes(random: np.random.Generator) -> None:
    control, treatment = correlated(random, 400, 0.6, 1.0), correlated(random, 330, 0.6, 1.4)
    revenue, past = (np.concatenate([control[name], treatment[name]]) for name in ("revenue", "pre_revenue"))
    covariance = np.cov(revenue, past)
    theta = covariance[0, 1] / covariance[1, 1]
    left = [arm["revenue"] - theta * (arm["pre_revenue"] - past.mean()) for arm in (control, treatment)]
    expected = ttest_ind(left[1], left[0], equal_var=False)
    revenue_per_user, analysis = with_cuped(REVENUE)
    result = found(cuped_contrast(revenue_per_user, sums_of(**control), sums_of(**treatment), analysis))
    assert result.difference.value == pytest.approx(left[1].mean() - left[0].mean())
    assert result.difference.p == pytest.approx(expected.pvalue)
    assert result.standard_error == pytest.approx(np.sqrt(sum(arm.var(ddof=1) / len(arm) for arm in left)))


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_cuped_reduces_the_variance_by_the_squared_correlation(random: np.random.Generator, correlation: float) -> None:
    revenue, analysis = with_cuped(REVENUE)
    sums = [sums_of(**correlated(random, 20_000, correlation, 1.0)) for _ in range(2)]
    plain = found(contrast(revenue, *sums, alpha=0.05)).standard_error
    left = found(cuped_contrast(revenue, *sums, analysis=analysis)).standard_error
    assert 1 - (left / plain) ** 2 == pytest.approx(correlation**2, abs=0.02)
    assert user_variance(revenue, sums[0], covariate_columns(revenue)) == pytest.approx(
        4 * (1 - correlation**2), rel=0.05
    )


def pooled_skewness(arms: list[np.ndarray]) -> float:
    """Return the skewness of the difference of two means, by deviations within the arms."""
    inner = np.concatenate([arm - arm.mean() for arm in arms])
    variance = sum(len(arm) * arm.var(ddof=1) for arm in arms) / len(inner)
    n0, n1 = map(len, arms)
    return (inner**3).mean() / variance**1.5 * (n1**-2 - n0**-2) / (1 / n1 + 1 / n0) ** 1.5


def test_skewness_with_cuped_is_that_of_the_adjusted_outcomes(random: np.random.Generator) -> None:
    arms = [
        {"revenue": past + random.exponential(2, n), "pre_revenue": past}
        for n in (300, 40)
        for past in [random.exponential(3, n)]
    ]
    revenue, past = (np.concatenate([arm[name] for arm in arms]) for name in ("revenue", "pre_revenue"))
    theta = np.cov(revenue, past)[0, 1] / past.var(ddof=1)
    settings, analysis = with_cuped(REVENUE)
    result = found(cuped_contrast(settings, *[moments_of(**arm) for arm in arms], analysis=analysis))
    expected = pooled_skewness([arm["revenue"] - theta * arm["pre_revenue"] for arm in arms])
    assert result.evidence.skewness == pytest.approx(expected)
    assert abs(expected) > 0.1


def test_skewness_of_a_ratio_is_that_of_the_linearised_outcomes(random: np.random.Generator) -> None:
    arms = [{"visits": random.geometric(0.3, n) - 1, "exposures": random.geometric(0.2, n)} for n in (30, 400)]
    result = found(contrast(metric(VISIT_RATE), *[moments_of(**arm) for arm in arms], alpha=0.05))
    rates = [arm["visits"].sum() / arm["exposures"].sum() for arm in arms]
    linear = [
        (arm["visits"] - rate * arm["exposures"]) / arm["exposures"].mean()
        for arm, rate in zip(arms, rates, strict=True)
    ]
    assert result.evidence.skewness == pytest.approx(pooled_skewness(linear))
    counted = (result.evidence.control_nonzero, result.evidence.variant_nonzero)
    assert counted == tuple(np.count_nonzero(arm["visits"]) for arm in arms)


def test_metric_without_a_covariate_is_not_adjusted() -> None:
    rate, analysis = with_cuped(VISIT_RATE)
    sums = [sums_of(visits=[1, 2, 0], exposures=[4, 5, 5]), sums_of(visits=[1, 2, 2, 1], exposures=[4, 5, 6, 2])]
    assert covariate_columns(rate) == ()  # the number of pages has none
    assert cuped_contrast(rate, *sums, analysis=analysis) is None
    assert decisive_contrast(rate, *sums, analysis=analysis) == contrast(rate, *sums, alpha=0.05)


def test_standard_error_agrees_with_tea_tasting(random: np.random.Generator) -> None:
    sums = [sums_of(**correlated(random, n, 0.7, effect)) for n, effect in ((90, 1.0), (140, 1.2))]
    analysis = with_cuped(REVENUE)[1]
    theirs = Mean("revenue", "pre_revenue").analyze_aggregates(
        *[_aggregates(s, ["revenue", "pre_revenue"]) for s in sums]
    )
    ours = found(cuped_contrast(metric(REVENUE), *sums, analysis=analysis))
    assert theirs.effect_size / theirs.statistic == pytest.approx(ours.standard_error)
    ratio = [sums_of(visits=random.integers(0, 5, n), exposures=random.integers(5, 9, n)) for n in (50, 70)]
    theirs = RatioOfMeans("visits", "exposures").analyze_aggregates(
        *[_aggregates(s, ["visits", "exposures"]) for s in ratio]
    )
    assert theirs.effect_size / theirs.statistic == pytest.approx(
        found(contrast(metric(VISIT_RATE), *ratio, alpha=0.05)).standard_error
    )


def test_added_sums_of_parts_give_the_same_contrast_as_the_whole(random: np.random.Generator) -> None:
    control, treatment = correlated(random, 60, 0.5, 1.0), correlated(random, 45, 0.5, 2.0)
    parts = [sums_of(**{name: values[rows] for name, values in control.items()}) for rows in (slice(13), slice(13, 60))]
    revenue, analysis = with_cuped(REVENUE)
    whole = found(cuped_contrast(revenue, sums_of(**control), sums_of(**treatment), analysis))
    added = found(cuped_contrast(revenue, Sums.total(parts), sums_of(**treatment), analysis))
    assert added.difference.value == pytest.approx(whole.difference.value)
    assert added.difference.p == pytest.approx(whole.difference.p)


def test_guardrail_that_is_0_for_every_user_does_not_differ() -> None:
    rate = experiment(guardrails=[FALLBACK_RATE]).analysis.guardrails[0]
    sums = [sums_of(fallbacks=[0] * n, exposures=range(1, n + 1)) for n in (5, 8)]
    result = found(contrast(rate, *sums, alpha=0.05))
    assert (result.difference.value, result.difference.p, lift(rate, *sums, alpha=0.05)) == (0.0, 1.0, None)
    assert (result.difference.interval.low, result.difference.interval.high) == (0.0, 0.0)


def test_purchases_of_one_variant_alone_are_compared_though_there_is_no_lift() -> None:
    control, treatment = sums_of(purchases=[0] * 50), sums_of(purchases=[0, 1] * 25)
    result = found(contrast(metric(PURCHASES), control, treatment, 0.05))
    assert (result.difference.value, lift(metric(PURCHASES), control, treatment, 0.05)) == (0.5, None)
    assert result.difference.p < 1e-8


def test_variants_without_variance_differ_with_p_0() -> None:
    result = found(contrast(metric(PURCHASES), sums_of(purchases=[1, 1, 1]), sums_of(purchases=[2, 2]), 0.05))
    assert (result.difference.value, result.difference.p) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("settings", "sums"),
    [
        (PURCHASES, Sums()),  # no users
        (PURCHASES, sums_of(purchases=[3])),  # one user has no spread
        (VISIT_RATE, sums_of(visits=[0, 0], exposures=[0, 0])),  # a denominator of 0
    ],
)
def test_what_cannot_be_compared_is_none(settings: dict, sums: Sums) -> None:
    other = sums_of(purchases=[1, 2, 4], visits=[1, 0, 2], exposures=[5, 3, 1])
    assert contrast(metric(settings), sums, other, 0.05) is None
    assert contrast(metric(settings), other, sums, 0.05) is None


def test_value_of_a_variant() -> None:
    sums = sums_of(purchases=[1, 2, 4, 0], visits=[1, 0, 2, 3], exposures=[5, 3, 1, 1])
    assert value(metric(PURCHASES), sums) == 7 / 4
    assert value(metric(VISIT_RATE), sums) == 6 / 10
    assert value(metric(VISIT_RATE), Sums()) is None


def test_winsorised_column_is_compared() -> None:
    sums = [sums_of(revenue=[1, 2, 90], revenue_capped=[1, 2, 6]), sums_of(revenue=[1, 3], revenue_capped=[1, 3])]
    capped = metric(REVENUE | {"winsorize": 0.9})
    assert value(capped, sums[0]) == 3.0
    assert found(contrast(capped, *sums, alpha=0.05)).difference.value == -1.0
    assert covariate_columns(capped) == ("pre_revenue^0.9",)


@pytest.mark.parametrize("control", [[-3.0, 3.0, 1.0, -1.0], [-2.0, 1.0, -1.0]])
def test_mean_at_or_below_zero_has_no_lift(control: list[float]) -> None:
    arms = sums_of(revenue=control), sums_of(revenue=[1.0, 2.0, 4.0])
    result = found(contrast(metric(REVENUE), *arms, 0.05))
    assert lift(metric(REVENUE), *arms, 0.05) is None
    assert result.difference.value == pytest.approx(7 / 3 - np.mean(control))


def test_coverage_of_the_intervals_is_their_level(random: np.random.Generator) -> None:
    # revenue is 0 for 85 % of users and log-normal for the others, as in a shop; the treatment sells 10 % more
    rounds, n = 2000, (1500, 1100)
    revenue = metric(REVENUE)
    mean = 0.15 * np.exp(3 + 0.5)
    covered = 0
    for _ in range(rounds):
        arms = [random.binomial(1, 0.15, size) * random.lognormal(3, 1, size) for size in n]
        sums = [
            Sums(len(arm), {"revenue": arm.sum()}, {("revenue",) * 2: arm @ arm, ("revenue",) * 3: arm @ arm**2})
            for arm in (arms[0], arms[1] * 1.1)
        ]
        covered += 0.1 * mean in found(contrast(revenue, *sums, alpha=0.05)).difference.interval
    assert 0.93 <= covered / rounds <= 0.97


def test_ratio_that_is_the_same_for_every_user_does_not_differ():
    # 0.1 per page for every user: sums of products of such numbers are rounded, and a variance may fall below 0
    metric = RatioSettings(name="rate", type="ratio", numerator="visits", denominator="exposures")
    arms = []
    for pages in (range(1, 8), range(1, 12)):
        rows = [(0.1 * n, float(n)) for n in pages]
        products = {
            ("visits", "visits"): sum(a * a for a, _ in rows),
            ("exposures", "exposures"): sum(b * b for _, b in rows),
            ("exposures", "visits"): sum(a * b for a, b in rows),
        }
        sums = {"visits": sum(a for a, _ in rows), "exposures": sum(b for _, b in rows)}
        arms.append(Sums(len(rows), sums, products))
    found = contrast(metric, *arms, alpha=0.05)
    assert found.difference == Difference(0.0, Interval(0.0, 0.0), 1.0)
