import math

import numpy as np
import pytest

from recsys.errors import ConfigurationError, EmptyInputError
from recsys.experiments.analysis.planning import LARGEST_EFFECT, SMALLEST_EFFECT, Plan, plan
from recsys.experiments.phase_summary import Sums
from recsys.experiments.settings import Experiment
from tests.helpers.judged_experiments import (
    CONTROL,
    PURCHASES,
    THEMES,
    VISIT_RATE,
    experiment,
    moments_of,
    sums_of,
)

HISTORY = sums_of(purchases=np.repeat([0, 1, 5], [60, 30, 10]), pre_purchases=np.repeat([0, 2, 4], [60, 30, 10]))
"""Mean 0.8, sample variance 2.18 / 0.99."""
VARIANCE = (30 + 250 - 64) / 99
DAILY = [100, 60, 40]


def planned(
    of: Experiment, effects: list[float], history: Sums = HISTORY, daily: list[int] = DAILY, **kwargs: float
) -> list[Plan]:
    return plan(of, of.analysis.primary[0], history, daily, effects, **kwargs)


def users_by_hand(variance: float, absolute: float) -> float:
    """Return the users of two equal variants together: 4 variance (z(0.975) + z(0.8))^2 / effect^2."""
    return 4 * variance * (1.959964 + 0.841621) ** 2 / absolute**2


def test_users_agree_with_the_textbook_formula() -> None:
    small, large = planned(experiment(), [0.05, 0.2])
    assert small.users == pytest.approx(users_by_hand(VARIANCE, 0.04), abs=2)
    assert large.users == pytest.approx(users_by_hand(VARIANCE, 0.16), abs=2)
    assert (small.effect, small.absolute) == (0.05, pytest.approx(0.04))


def test_negative_effect_needs_as_many_users_as_a_positive_one() -> None:
    [negative] = planned(experiment(), [-0.2])
    assert negative.users == planned(experiment(), [0.2])[0].users
    assert negative.absolute == pytest.approx(-0.16)


def test_correlation_with_the_covariate_saves_users() -> None:
    [plain], [correlated] = planned(experiment(), [0.1]), planned(experiment(), [0.1], correlation=0.6)
    assert correlated.users == pytest.approx(plain.users * (1 - 0.36), abs=2)


def test_correlation_defaults_to_that_of_the_history_with_cuped() -> None:
    correlation = np.corrcoef(np.repeat([0, 1, 5], [60, 30, 10]), np.repeat([0, 2, 4], [60, 30, 10]))[0, 1]
    [found] = planned(experiment(cuped={"lookback_days": 28}), [0.1])
    assert found.users == pytest.approx(planned(experiment(), [0.1], correlation=correlation)[0].users, abs=2)


def test_unequal_weights_need_more_users() -> None:
    unequal = experiment(variants=[CONTROL | {"weight": 0.8}, THEMES | {"weight": 0.2}])
    [found] = planned(unequal, [0.1])
    # variance / n_control + variance / n_treatment at 80 : 20 against 50 : 50
    assert found.users == pytest.approx(users_by_hand(VARIANCE, 0.08) / 4 * (1 / 0.8 + 1 / 0.2), abs=5)


def test_smallest_of_three_variants_decides_the_users() -> None:
    weights = (0.5, 0.3, 0.2)
    variants = [THEMES | {"key": f"v{index}", "weight": weight} for index, weight in enumerate(weights)]
    [found] = planned(experiment(variants=variants), [0.1])
    pair = users_by_hand(VARIANCE, 0.08) / 4 * (1 / (5 / 7) + 1 / (2 / 7))
    assert found.users == pytest.approx(pair / 0.7, abs=5)


def test_variance_of_a_ratio_is_that_between_users() -> None:
    visits, exposures = np.array([1, 3, 0, 2, 2]), np.array([4, 9, 2, 5, 3])
    parts = (visits - 8 / 23 * exposures) / exposures.mean()
    [found] = planned(experiment([VISIT_RATE]), [0.1], sums_of(visits=visits, exposures=exposures))
    assert found.users == pytest.approx(users_by_hand(parts.var(ddof=1), 0.8 / 23), abs=2)


def test_days_include_the_attribution_window_of_the_last_user() -> None:
    effects = {users: math.sqrt(users_by_hand(VARIANCE, 0.8) / users) for users in (99, 150, 200, 1_000)}
    found = planned(experiment(), list(effects.values()))
    # 100, 160, 200 users after 1, 2, 3 days; then 66.7 per day: 800 more take 12 days; then 7 days of attribution
    assert [each.users for each in found] == pytest.approx(list(effects), abs=1)
    assert [each.days for each in found] == [1 + 7, 2 + 7, 3 + 7, 3 + 12 + 7]


def test_large_effect_still_needs_the_users_below_which_nothing_can_be_told() -> None:
    rare = moments_of(purchases=np.repeat([0, 1], [990, 10]))
    [found] = planned(experiment(), [20.0], rare)  # 1 % buy: 10 buyers in the smaller arm of 2,000 users
    assert found.users == 2_000
    unequal = experiment(variants=[CONTROL | {"weight": 0.9}, THEMES | {"weight": 0.1}])
    [found] = planned(unequal, [20.0], rare)
    assert found.users == 10_000


@pytest.mark.parametrize("daily", [[], [0, 0]])
def test_shop_without_new_users_has_no_duration(daily: list[int]) -> None:
    assert planned(experiment(), [0.1], daily=daily)[0].days is None


def test_invalid_effect_or_correlation_is_refused() -> None:
    for effect in (0.0, 0.00009, -0.00009, 101.0, -101.0, math.nan, math.inf):
        with pytest.raises(ConfigurationError, match=rf"effect == {effect:g}, must be from 0\.0001 to 100"):
            planned(experiment(), [0.1, effect])
    with pytest.raises(ConfigurationError, match=r"correlation == 1\.0, must be in \(-1, 1\)"):
        planned(experiment(), [0.1], correlation=1.0)


@pytest.mark.parametrize("effect", [SMALLEST_EFFECT, LARGEST_EFFECT, -LARGEST_EFFECT])
def test_smallest_and_largest_effect_have_a_plan(effect: float) -> None:
    (found,) = planned(experiment(), [effect])
    assert found.users >= 3


@pytest.mark.parametrize("purchases", [[0, 0, 0], [2, 2, 2], [3]])
def test_history_without_variance_is_refused(purchases: list[int]) -> None:
    with pytest.raises(EmptyInputError, match="purchases_per_user"):
        planned(experiment([PURCHASES]), [0.1], sums_of(purchases=purchases))


def test_empty_history_is_refused() -> None:
    with pytest.raises(EmptyInputError, match="purchases_per_user == None for all of 0 users"):
        planned(experiment(), [0.1], Sums())
