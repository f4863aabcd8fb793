import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.experiments.analysis.sequential import always_valid, critical_value


def test_interval_agrees_with_growthbook() -> None:
    # 0.50336 with standard error 0.33341, 3000 + 3461 users, tuned to 1000: (-0.55844, 1.56516)
    found = always_valid(0.50336, 0.33341, 6461, alpha=0.05, tune_n=1000)
    assert found.interval.low == pytest.approx(-0.55844, abs=2e-5)
    assert found.interval.high == pytest.approx(1.56516, abs=2e-5)
    assert found.p == 1.0


@given(st.floats(0.1, 9), st.floats(0.01, 5), st.integers(2, 10**7), st.floats(0.001, 0.2), st.integers(100, 10**6))
def test_p_is_below_alpha_exactly_where_the_interval_excludes_zero(
    difference: float, error: float, n: int, alpha: float, tune_n: int
) -> None:
    found = always_valid(difference, error, n, alpha, tune_n)
    assert (found.p < alpha) == (0 not in found.interval) or found.p == pytest.approx(alpha)


def test_interval_is_tightest_near_the_tuned_number_of_users() -> None:
    numbers = [100, 2_000, 20_000, 200_000, 20_000_000]
    assert min(numbers, key=lambda n: critical_value(n, 0.05, 20_000)) == 20_000
    assert critical_value(20_000, 0.05, 20_000) > 2.5  # 1.96 at a single planned look


def test_difference_without_variance_has_p_0_or_1() -> None:
    assert always_valid(0.0, 0.0, 50, 0.05, 1000).p == 1.0
    assert always_valid(0.2, 0.0, 50, 0.05, 1000).p == 0.0


def test_looking_after_every_user_raises_few_false_positives() -> None:
    steps = np.random.default_rng(5).exponential(1.0, (1000, 3000)) - 1.0
    n = np.arange(1, 3001)
    z = np.cumsum(steps, axis=1) / np.sqrt(n)
    bounds = np.array([critical_value(each, 0.05, 1000) for each in n])
    always_valid_rate = np.mean(np.any(np.abs(z) > bounds, axis=1))
    fixed_rate = np.mean(np.any(np.abs(z[:, 99:]) > 1.96, axis=1))
    assert always_valid_rate <= 0.05
    assert fixed_rate > 0.3  # the rate of a fixed interval with as many looks
