import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.backtest.calibration import calibration, poisson_interval
from recsys.meta_model import LogisticModel, Weights
from recsys.meta_model.training import Examples

MODEL = LogisticModel(["x"], [0.0], [1.0], [1.0], 0.0)  # log-odds are the feature


def examples(rows: list[tuple[float, bool, float]], repeat: list[bool] | None = None) -> Examples:
    """Rows of probability, bought, sampling rate."""
    chances, bought, rates = (np.array(column) for column in zip(*rows, strict=True))
    features = np.log(chances / (1 - chances)).astype(np.float32)[:, None]
    return Examples(["x"], features, bought, rates, np.array(repeat or [False] * len(rows)), np.zeros(len(rows), int))


def test_deciles_of_hand_computed_examples():
    # 20 sales in all: the one of rate 1/4 weighs 4 sales, two deciles; its middle lies in the second.
    rows = [(0.02, False, 0.25), (0.03, False, 1.0), (0.03, True, 1.0)]
    rows += [(0.1 + number / 100, number % 4 == 0, 1.0) for number in range(14)]
    found = calibration(MODEL, examples(rows[::-1]))
    assert [each["sales"] for each in found] == [4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert [each["purchases"] for each in found] == [0, 1, 1, 0, 1, 0, 1, 0, 1]
    assert [each["made"] for each in found] == [0, *[each["purchases"] / 2 for each in found[1:]]]
    assert [each["predicted"] for each in found[:3]] == pytest.approx([0.02, 0.03, 0.105], rel=1e-5)
    assert found[1]["high"] == pytest.approx(5.572 / 2, abs=1e-3)


def test_repeat_purchases_are_predicted_by_coefficients_of_their_own():
    model = LogisticModel(["x"], [0.0], [1.0], [1.0], 0.0, Weights([0.0], 0.0))
    found = calibration(model, examples([(0.1, True, 1.0), (0.1, False, 1.0)], repeat=[True, False]))
    assert [(each["predicted"], each["purchases"]) for each in found] == [
        (pytest.approx(0.1), 0),
        (pytest.approx(0.5), 1),
    ]


@pytest.mark.parametrize(("count", "interval"), [(0, (0, 3.689)), (1, (0.0253, 5.572)), (10, (4.795, 18.39))])
def test_poisson_interval_matches_published_tables(count, interval):
    assert poisson_interval(count) == pytest.approx(interval, rel=1e-3)


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans(), st.floats(0.01, 1)), min_size=1, max_size=60))
def test_deciles_hold_all_sales_and_purchases_in_ascending_order(rows):
    found = calibration(MODEL, examples(rows))
    assert sum(each["purchases"] for each in found) == sum(bought for _, bought, _ in rows)
    assert sum(each["sales"] for each in found) == pytest.approx(sum(1 / rate for _, _, rate in rows))
    predicted = [each["predicted"] for each in found]
    assert predicted == pytest.approx(sorted(predicted))
    assert all(each["low"] <= each["made"] <= each["high"] for each in found)
