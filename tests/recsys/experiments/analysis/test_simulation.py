from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import EmptyInputError
from recsys.experiments.analysis.outcomes import COLUMNS
from recsys.experiments.analysis.results import Interval
from recsys.experiments.analysis.simulation import Share, Simulation, _UserDays, simulate_aa
from tests.helpers.judged_experiments import (
    CONTROL,
    DAY,
    ENDED_AT,
    PURCHASES,
    REVENUE,
    THEMES,
    VISIT_RATE,
    experiment,
)

DAYS = 14
USERS = 1_500
SPLITS = [f"a-a:{number}:" for number in range(500)]
UNEQUAL = experiment([REVENUE], variants=[CONTROL | {"weight": 0.4}, THEMES | {"weight": 0.6}])


def user_days(n_users: int, seed: int) -> pa.Table:
    """Return user-days of two weeks, with repeated visits and rare purchases of skewed revenue."""
    random = np.random.default_rng(seed)
    first = random.integers(0, DAYS, n_users)
    comes = random.random((n_users, DAYS)) < 0.3
    comes[np.arange(n_users), first] = True
    comes &= np.arange(DAYS) >= first[:, None]
    user, day = np.nonzero(comes)
    scale = random.lognormal(0, 0.5, n_users)[user]
    revenue = (random.random(len(user)) < 0.1) * scale * random.lognormal(3, 1, len(user))
    exposures = random.integers(1, 6, len(user))
    columns: dict[str, object] = dict.fromkeys(COLUMNS, np.zeros(len(user)))
    columns |= {
        "user_id": [f"user-{number:05d}" for number in user],
        "day": [DAY + timedelta(days=int(number)) for number in day],
        "triggered": np.zeros(len(user), int),
        "revenue": revenue,
        "exposures": exposures,
        "visits": random.binomial(exposures, 0.4),
    }
    return pa.table(columns)


@pytest.fixture(scope="module")
def simulated() -> Simulation:
    return simulate_aa(UNEQUAL, user_days(USERS, 8), SPLITS, ENDED_AT)


def test_false_positive_rate_of_one_look_at_the_end_is_alpha(simulated: Simulation) -> None:
    [revenue] = simulated.metrics
    assert (revenue.metric, revenue.variant, revenue.fixed.of) == ("revenue_per_user", "themes", 500)
    assert 0.03 <= revenue.fixed.value <= 0.07
    assert 0.05 in revenue.fixed.interval
    assert revenue.uniformity_p > 0.01


def test_false_positive_rate_of_the_always_valid_interval_is_at_most_alpha(simulated: Simulation) -> None:
    [revenue] = simulated.metrics
    assert revenue.always_valid.value <= 0.05
    assert revenue.peeking.value > 0.1  # the rate of the fixed interval with daily looks


def test_sample_ratio_test_has_few_false_positives(simulated: Simulation) -> None:
    assert simulated.sample_ratio.count <= 3  # 0.001 of 500
    assert (simulated.splits, simulated.users) == (500, USERS)


def test_same_seeds_give_the_same_splits_and_other_seeds_others() -> None:
    rows = user_days(200, 3)
    first, repeated, other = (simulate_aa(UNEQUAL, rows, seeds, ENDED_AT) for seeds in (["a:"], ["a:"], ["b:"]))
    assert first == repeated
    assert first != other


def test_sound_simulation_passes(simulated: Simulation) -> None:
    assert simulated.passes
    assert [each.passes(0.05) for each in simulated.metrics] == [True]


def test_share_above_a_rate_by_chance_does_not_exceed_it() -> None:
    assert not Share(500, 38, Interval(0, 1)).exceeds(0.05)  # 38 or more of 500 at 5 %: p 0.0085
    assert Share(500, 45, Interval(0, 1)).exceeds(0.05)  # p 0.0002


def test_constant_metric_and_one_of_few_users_cannot_be_tested() -> None:
    rows = user_days(300, 4)
    rows = rows.set_column(rows.column_names.index("purchases"), "purchases", pa.array(np.zeros(len(rows))))
    first = np.flatnonzero(np.arange(len(rows)) < 3).size
    rare = pa.array((np.arange(len(rows)) < first).astype(float))
    rows = rows.set_column(rows.column_names.index("fallbacks"), "fallbacks", rare)
    metrics = [PURCHASES, {"name": "fallen", "type": "mean", "column": "fallbacks"}, REVENUE]
    found = simulate_aa(experiment(metrics), rows, SPLITS[:30], ENDED_AT)
    assert [each.untestable for each in found.metrics] == [
        "it is the same for every user",
        "too few users have a value other than 0, or a few large values decide",
        "",
    ]
    assert [each.passes(0.05) for each in found.metrics] == [None, None, True]
    assert [each.uniformity_p is None for each in found.metrics] == [True, True, False]
    assert found.passes


def test_coverage_limits_the_users_of_each_split() -> None:
    rows = user_days(1_000, 3)
    narrow = UNEQUAL.model_copy(update={"coverage": 0.1})
    found = [_UserDays(each, rows).split("a:", ENDED_AT) for each in (UNEQUAL, narrow)]
    assert [sum(each.health.users.values()) for each in found] == [1_000, pytest.approx(100, abs=30)]
    assert found[1].comparisons[0].control_users == found[1].health.users["control"]


def test_only_weights_coverage_and_analysis_of_the_experiment_are_used() -> None:
    rows = user_days(200, 3)
    of_type = UNEQUAL.model_copy(update={"type": "ab"})
    expected = simulate_aa(UNEQUAL, rows, SPLITS[:3], ENDED_AT)
    assert simulate_aa(of_type, rows, SPLITS[:3], ENDED_AT) == expected
    assigned = rows.append_column("variant", pa.array(["control"] * len(rows)))
    assert simulate_aa(UNEQUAL, assigned, SPLITS[:3], ENDED_AT) == expected


def test_every_metric_of_every_variant_is_simulated() -> None:
    three = experiment(
        [REVENUE | {"winsorize": 0.99}, VISIT_RATE],
        variants=[CONTROL, THEMES | {"weight": 0.3}, THEMES | {"key": "covers", "weight": 0.2}],
        cuped={"lookback_days": 28},
    )
    found = simulate_aa(three, user_days(300, 4), SPLITS[:4], ENDED_AT)
    assert [(each.metric, each.variant, each.fixed.of) for each in found.metrics] == [
        ("revenue_per_user", "themes", 4),
        ("revenue_per_user", "covers", 4),
        ("visit_rate", "themes", 4),
        ("visit_rate", "covers", 4),
    ]


def test_period_without_users_is_refused() -> None:
    with pytest.raises(EmptyInputError, match="user_days has 0 rows"):
        simulate_aa(UNEQUAL, user_days(0, 1), SPLITS[:1], ENDED_AT)


def test_metric_that_no_split_can_compare_cannot_be_tested() -> None:
    [found] = simulate_aa(UNEQUAL, user_days(1, 1), SPLITS[:3], ENDED_AT).metrics
    assert found.untestable == "too few users to compare"
