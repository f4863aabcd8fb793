import numpy as np
import pytest
from scipy.stats import ttest_rel

from recsys.experiments.analysis.preference import preference
from recsys.experiments.phase_summary import Sums
from tests.helpers.judged_experiments import experiment, sums_of

INTERLEAVED = experiment(type="interleave", alpha=0.1)


def test_preference_agrees_with_a_paired_t_test_over_users() -> None:
    random = np.random.default_rng(4)
    control = random.poisson(0.4, 130)
    treatment = control + random.poisson(0.3, 130) - random.binomial(1, 0.1, 130) * (control > 0)
    found = preference(INTERLEAVED, sums_of(credit_control=control, credit_themes=treatment))
    expected = ttest_rel(treatment, control)
    interval = expected.confidence_interval(0.9)
    assert (found.variant, found.users) == ("themes", 130)
    assert found.credits == {"control": control.sum(), "themes": treatment.sum()}
    assert found.difference is not None
    assert found.difference.value == pytest.approx(treatment.mean() - control.mean())
    assert found.difference.p == pytest.approx(expected.pvalue)
    assert (found.difference.interval.low, found.difference.interval.high) == pytest.approx(
        (interval.low, interval.high)
    )
    assert found.always_valid is not None
    assert found.always_valid.interval.low < interval.low
    assert found.always_valid.interval.high > interval.high


def test_users_without_purchases_show_no_preference() -> None:
    found = preference(INTERLEAVED, sums_of(credit_control=[0, 0, 0], credit_themes=[0, 0, 0]))
    assert found.difference is not None
    assert (found.difference.value, found.difference.p) == (0.0, 1.0)


def test_one_user_cannot_be_compared() -> None:
    found = preference(INTERLEAVED, sums_of(credit_control=[1], credit_themes=[3]))
    assert found.credits == {"control": 1, "themes": 3}
    assert (found.difference, found.always_valid) == (None, None)
    assert preference(INTERLEAVED, Sums()).credits == {"control": 0, "themes": 0}
