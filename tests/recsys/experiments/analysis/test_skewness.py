"""Error rates of the whole comparison in simulated A/A tests, with few buyers, skewed revenue and unequal arms."""

from collections.abc import Iterator

import numpy as np
import pytest

from recsys.experiments.analysis.contrasts import Contrast, contrast
from recsys.experiments.analysis.skewness import (
    MOST_SKEWED,
    evidence,
    skewed_score,
    skewness_of_difference,
    symmetric_score,
)
from recsys.experiments.phase_summary import Sums
from tests.helpers.judged_experiments import REVENUE, experiment

ANALYSIS = experiment([REVENUE]).analysis
[REVENUE_PER_USER] = ANALYSIS.primary


def test_symmetric_score_is_halls_cubic() -> None:
    # g(2) with skewness 0.3: 2 + 0.3 * 4 / 3 + 0.09 * 8 / 27 + 0.3 / 6
    assert symmetric_score(2.0, 0.3) == pytest.approx(2 + 0.4 + 0.72 / 27 + 0.05)


@pytest.mark.parametrize("skewness", [-2.0, -0.3, 1e-7, 0.3, 5.0])
@pytest.mark.parametrize("score", [-4.0, -1.96, 0.0, 1.96, 4.0])
def test_skewed_score_is_the_inverse(score: float, skewness: float) -> None:
    assert symmetric_score(skewed_score(score, skewness), skewness) == pytest.approx(score, abs=1e-6)


def test_skewness_of_a_difference_is_that_of_the_smaller_arm_and_cancels_in_equal_ones() -> None:
    assert skewness_of_difference(10.0, 500, 500) == 0
    assert skewness_of_difference(10.0, 10**12, 400) == pytest.approx(10 / np.sqrt(400))  # of a mean of 400
    assert skewness_of_difference(10.0, 400, 10**12) == pytest.approx(-10 / np.sqrt(400))


@pytest.mark.parametrize(
    ("nonzero", "users", "skewness", "is_enough"),
    [
        ((90, 10), (9_000, 1_000), 0.2, True),  # 10 expected of 100 buyers
        ((90, 9), (9_000, 1_000), 0.2, False),
        ((99, 1), (9_000, 1_000), 0.2, True),  # few by chance, or because the variant is worse
        ((0, 300), (500, 500), 0.0, True),
        ((900, 100), (9_000, 1_000), MOST_SKEWED + 0.01, False),
        ((900, 100), (9_000, 1_000), -MOST_SKEWED - 0.01, False),
    ],
)
def test_data_suffice_by_expected_buyers_and_skewness(
    nonzero: tuple[int, int], users: tuple[int, int], skewness: float, is_enough: bool
) -> None:
    assert evidence(nonzero, users, skewness).is_enough == is_enough


def days_of_shop(random: np.random.Generator, daily: int, weight: float, sigma: float, lift: float) -> Iterator[list]:
    """Yield the sums of control and variant at the end of each of 14 days: 1 % of the users buy, log-normally."""
    totals = np.zeros((2, 5))
    for _ in range(14):
        treated = random.binomial(daily, weight)
        for arm, n in enumerate((daily - treated, treated)):
            values = random.lognormal(0, sigma, random.binomial(n, 0.01)) * (1 + lift * arm)
            totals[arm] += [n, len(values), values.sum(), (values**2).sum(), (values**3).sum()]
        yield [
            Sums(
                int(n),
                {"revenue": total, "revenue != 0": buyers},
                {("revenue",) * 2: squares, ("revenue",) * 3: cubes},
            )
            for n, buyers, total, squares, cubes in totals
        ]


def looks(*shop: float, runs: int, seed: int, lift: float = 0.0) -> Iterator[list[Contrast]]:
    """Yield the daily contrasts of each run from the first day that can be compared."""
    random = np.random.default_rng(seed)
    for _ in range(runs):
        found = [contrast(REVENUE_PER_USER, *arms, alpha=0.05) for arms in days_of_shop(random, *shop, lift)]  # type: ignore[arg-type]
        yield [each for each in found if each is not None]


def share(flags: list[bool]) -> float:
    return sum(flags) / len(flags)


# By Welch's interval and without a least number of buyers, the rates of `early` are .14, .15, .20 and .33.
@pytest.mark.parametrize(
    ("daily", "weight", "sigma"), [(1_000, 0.1, 0.0), (1_000, 0.1, 1.0), (3_000, 0.1, 1.0), (3_000, 0.95, 1.5)]
)
def test_few_buyers_end_no_same_variants_early(daily: int, weight: float, sigma: float) -> None:
    early = [
        any(0 not in look.always_valid(ANALYSIS).interval for look in run if look.evidence.is_enough)
        for run in looks(daily, weight, sigma, runs=150, seed=1)
    ]
    assert share(early) <= 0.03


# By Welch's interval, .11, .09 and .08; `told` is the share of runs that end with enough data to tell.
@pytest.mark.parametrize(
    ("daily", "weight", "sigma", "told"), [(1_000, 0.1, 1.0, 0.0), (3_000, 0.1, 1.0, 0.6), (7_000, 0.05, 1.0, 0.5)]
)
def test_one_look_at_same_variants_errs_in_at_most_alpha(daily: int, weight: float, sigma: float, told: float) -> None:
    last = [run[-1] for run in looks(daily, weight, sigma, runs=400, seed=2)]
    wrong = [look.evidence.is_enough and 0 not in look.difference.interval for look in last]
    assert share(wrong) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)
    assert share([look.evidence.is_enough for look in last]) >= told


def test_true_difference_of_unequal_arms_is_covered() -> None:
    # with a variance pooled over the arms, 15 % of intervals would miss it
    expected = 0.01 * np.exp(0.5**2 / 2) * 0.5
    last = [run[-1] for run in looks(3_000, 0.1, 0.5, runs=400, seed=3, lift=0.5)]
    missed = share([expected not in look.difference.interval for look in last])
    assert 0.02 <= missed <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_plentiful_data_have_welchs_interval() -> None:
    # 100,000 users, 30,000 of them in the variant, 20 % buy
    random = np.random.default_rng(4)
    arms = []
    for n in (70_000, 30_000):
        values = random.binomial(1, 0.2, n) * random.lognormal(0, 1, n)
        squares, cubes = values @ values, values @ values**2
        products = {("revenue",) * 2: squares, ("revenue",) * 3: cubes}
        arms.append((n, {"revenue": values.sum()}, products))
    ours = contrast(REVENUE_PER_USER, *(Sums(*arm) for arm in arms), alpha=0.05)
    welch = contrast(
        REVENUE_PER_USER,
        *(Sums(n, sums, {("revenue",) * 2: products[("revenue",) * 2]}) for n, sums, products in arms),
        alpha=0.05,
    )
    assert ours is not None
    assert welch is not None
    width, welchs_width = (each.difference.interval.high - each.difference.interval.low for each in (ours, welch))
    assert 1 < width / welchs_width < 1.005
