import math

import numpy as np
import pytest

from recsys.errors import ConfigurationError, EmptyInputError
from recsys.experiments.analysis.planning import Plan, plan
from recsys.experiments.evidence import Sums
from recsys.experiments.settings import Experiment
from tests.helpers.judged_experiments import CONTROL, PURCHASES, THEMES, VISIT_RATE, experiment, sums_of

HISTORY = sums_of(purchases=np.repeat([0, 1, 5], [60, 30, 10]), pre_purchases=np.repeat([0, 2, 4], [60, 30, 10]))
"""Mean 0.8, sample variance 2.18 / 0.99."""
VARIANCE = (30 + 250 - 64) / 99
DAILY = [100, 60, 40]


def planned(
    of: Experiment, effects: list[float], history: Sums = HISTORY, daily: list[int] = DAILY, **kwargs: float
) -> list[Plan]:
    return plan(of, of.analysis.primary[0], history, daily, effects, **kwargs)


def users_by_hand(variance: float, absolute: float) -> float:
    """Users of two equal variants: 4 variance (z(0.975) + z(0.8))^2 / effect^2."""
    return 4 * variance * (1.959964 + 0.841621) ** 2 / absolute**2


def test_users_are_those_of_the_textbook() -> None:
    small, large = planned(experiment(), [0.05, 0.2])
    assert small.users == pytest.approx(users_by_hand(VARIANCE, 0.04), abs=2)
    assert large.users == pytest.approx(users_by_hand(VARIANCE, 0.16), abs=2)
    assert (small.effect, small.absolute) == (0.05, pytest.approx(0.04))


def test_loss_takes_as_many_users_as_a_gain() -> None:
    [loss] = planned(experiment(), [-0.2])
    assert loss.users == planned(experiment(), [0.2])[0].users
    assert loss.absolute == pytest.approx(-0.16)


def test_correlation_with_the_past_saves_users() -> None:
    [plain], [correlated] = planned(experiment(), [0.1]), planned(experiment(), [0.1], correlation=0.6)
    assert correlated.users == pytest.approx(plain.users * (1 - 0.36), abs=2)


def test_correlation_is_that_of_the_history_where_cuped_is_on() -> None:
    correlation = np.corrcoef(np.repeat([0, 1, 5], [60, 30, 10]), np.repeat([0, 2, 4], [60, 30, 10]))[0, 1]
    [found] = planned(experiment(cuped={"lookback_days": 28}), [0.1])
    assert found.users == pytest.approx(planned(experiment(), [0.1], correlation=correlation)[0].users, abs=2)


def test_unequal_weights_take_more_users() -> None:
    lopsided = experiment(variants=[CONTROL | {"weight": 0.8}, THEMES | {"weight": 0.2}])
    [found] = planned(lopsided, [0.1])
    # variance / n_control + variance / n_treatment at 80 : 20 against 50 : 50
    assert found.users == pytest.approx(users_by_hand(VARIANCE, 0.08) / 4 * (1 / 0.8 + 1 / 0.2), abs=5)


def test_each_of_three_variants_needs_its_users() -> None:
    weights = (0.5, 0.3, 0.2)
    variants = [THEMES | {"key": f"v{place}", "weight": weight} for place, weight in enumerate(weights)]
    [found] = planned(experiment(variants=variants), [0.1])
    pair = users_by_hand(VARIANCE, 0.08) / 4 * (1 / (5 / 7) + 1 / (2 / 7))
    assert found.users == pytest.approx(pair / 0.7, abs=5)  # the rarest decides


def test_ratio_is_planned_by_users() -> None:
    visits, exposures = np.array([1, 3, 0, 2, 2]), np.array([4, 9, 2, 5, 3])
    parts = (visits - 8 / 23 * exposures) / exposures.mean()
    [found] = planned(experiment([VISIT_RATE]), [0.1], sums_of(visits=visits, exposures=exposures))
    assert found.users == pytest.approx(users_by_hand(parts.var(ddof=1), 0.8 / 23), abs=2)


def test_days_are_those_until_enough_users_have_come_and_their_outcomes_are_known() -> None:
    effects = {users: math.sqrt(users_by_hand(VARIANCE, 0.8) / users) for users in (99, 150, 200, 1_000)}
    found = planned(experiment(), list(effects.values()))
    # 100, 160, 200 users after 1, 2, 3 days; then 66.7 a day: 800 more take 12 days; 7 days of attribution
    assert [each.users for each in found] == pytest.approx(list(effects), abs=1)
    assert [each.days for each in found] == [1 + 7, 2 + 7, 3 + 7, 3 + 12 + 7]


def test_coverage_takes_in_its_share() -> None:
    effect = math.sqrt(users_by_hand(VARIANCE, 0.8) / 90)
    half = experiment().model_copy(update={"coverage": 0.5})
    assert planned(half, [effect])[0].days == 3 + 7  # 50, 80, 100


@pytest.mark.parametrize("daily", [[], [0, 0]])
def test_shop_without_new_users_never_has_enough(daily: list[int]) -> None:
    assert planned(experiment(), [0.1], daily=daily)[0].days is None


def test_no_effect_cannot_be_planned_for() -> None:
    with pytest.raises(ConfigurationError, match="effect == 0"):
        planned(experiment(), [0.1, 0.0])
    with pytest.raises(ConfigurationError, match=r"correlation == 1\.0: must be in \(-1, 1\)"):
        planned(experiment(), [0.1], correlation=1.0)


@pytest.mark.parametrize("purchases", [[0, 0, 0], [2, 2, 2], [3]])
def test_history_without_spread_tells_nothing(purchases: list[int]) -> None:
    with pytest.raises(EmptyInputError, match="purchases_per_user"):
        planned(experiment([PURCHASES]), [0.1], sums_of(purchases=purchases))


def test_empty_history_tells_nothing() -> None:
    with pytest.raises(EmptyInputError, match="purchases_per_user == None for all of 0 users"):
        planned(experiment(), [0.1], Sums())
