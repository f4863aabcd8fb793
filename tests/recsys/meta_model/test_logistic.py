import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from recsys.errors import ModelError
from recsys.meta_model import LogisticModel, MetaModelSettings, Weights, meta_model_from_json, probability
from recsys.meta_model.training import Examples, train

MODEL = LogisticModel(
    features=["popularity", "activity", "own_visits"],
    means=[1.0, 2.0, 0.5],
    scales=[2.0, 4.0, 0.5],
    coefficients=[3.0, -1.0, 0.0],
    intercept=-2.0,
)


def test_log_odds_are_the_intercept_and_the_standardised_features() -> None:
    popularity = np.array([[1, 5], [2, 0], [0, 3]], np.float32)
    activity = np.array([[2, 6], [10, 2], [0, 0]], np.float32)
    own_visits = np.full((3, 2), 1e6, np.float32)  # its coefficient is 0
    log_odds = MODEL.log_odds(np.stack([popularity, activity, own_visits]))
    expected = [
        [-2 + 3 * (1 - 1) / 2 - (2 - 2) / 4, -2 + 3 * (5 - 1) / 2 - (6 - 2) / 4],
        [-2 + 3 * (2 - 1) / 2 - (10 - 2) / 4, -2 + 3 * (0 - 1) / 2 - (2 - 2) / 4],
        [-2 + 3 * (0 - 1) / 2 - (0 - 2) / 4, -2 + 3 * (3 - 1) / 2 - (0 - 2) / 4],
    ]
    assert log_odds.dtype == np.float32
    assert_allclose(log_odds, expected, rtol=1e-6)


def test_log_odds_of_no_user_are_empty() -> None:
    assert MODEL.log_odds(np.zeros((3, 0, 2), np.float32)).shape == (0, 2)


def test_log_odds_leave_the_features_as_they_are() -> None:
    features = np.ones((3, 2, 2), np.float32)
    MODEL.log_odds(features)
    assert_allclose(features, 1)


def test_log_odds_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal([1, -5, 300], [1, 0.1, 90], (500, 3)).astype(np.float32)
    bought = rng.random(500) < 1 / (1 + np.exp(-features[:, 0]))
    model = train(
        Examples(["a", "b", "c"], features, bought, np.ones(500), np.zeros(500, bool), np.zeros(500, int)),
        MetaModelSettings(kind="logistic", bends=False, regularization=0.3),
    )
    scaler = StandardScaler().fit(features)
    peer = LogisticRegression(C=0.3, max_iter=1000).fit(scaler.transform(features), bought)
    assert_allclose(
        model.log_odds(features.T),
        peer.decision_function(scaler.transform(features)),
        atol=1e-4,
    )


def test_probability_of_log_odds() -> None:
    log_odds = np.array([0, np.log(3), -np.log(3)], np.float32)
    assert_allclose(probability(log_odds), [1 / 2, 3 / 4, 1 / 4], rtol=1e-6)
    assert probability(np.array([80, -80], np.float32)) == pytest.approx([1, 0])


def test_model_comes_back_from_json() -> None:
    assert meta_model_from_json(MODEL.to_json()) == MODEL


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=4))
def test_numbers_come_back_from_json_exactly(numbers: list[float]) -> None:
    mean, scale, coefficient, intercept = numbers
    model = LogisticModel(["é"], [mean], [scale], [coefficient], intercept)
    assert meta_model_from_json(model.to_json()) == model


def test_features_of_training_are_accepted() -> None:
    MODEL.require_features(["popularity", "activity", "own_visits"])


@pytest.mark.parametrize("names", [["popularity", "own_visits"], ["activity", "popularity", "own_visits"], []])
def test_other_features_or_another_order_are_refused_and_both_are_named(names: list[str]) -> None:
    with pytest.raises(ModelError) as error:
        MODEL.require_features(names)
    assert str(error.value) == (
        "the model was trained on features popularity, activity, own_visits; the configuration gives "
        f"{', '.join(names)}: train again, or correct 'recommenders.without'"
    )


def test_model_over_more_features_scores_as_before() -> None:
    wider = MODEL.over(["new", "own_visits", "popularity", "activity", "newer"])
    assert wider.features == ["new", "own_visits", "popularity", "activity", "newer"]
    assert (wider.means, wider.scales) == ([0.0, 0.5, 1.0, 2.0, 0.0], [1.0, 0.5, 2.0, 4.0, 1.0])
    values = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    found, expected = wider.log_odds(values), MODEL.log_odds(values[[2, 3, 1]])
    assert_allclose(found, expected, rtol=1e-6)
    assert MODEL.over(MODEL.features) == MODEL


def test_missing_feature_is_fixed_at_its_mean_in_training() -> None:
    narrower = MODEL.over(["popularity"])
    assert (narrower.features, narrower.coefficients, narrower.intercept) == (["popularity"], [3.0], -2.0)
    popularity = np.array([0.0, 5.0], np.float32)
    at_its_mean = [np.full(2, MODEL.means[number], np.float32) for number in (1, 2)]
    expected = MODEL.log_odds(np.stack([popularity, *at_its_mean]))
    assert_allclose(narrower.log_odds(popularity[None]), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "wrong", [{"negatives": 0}, {"days": 0}, {"retrain_days": 0}, {"regularization": 0}, {"negative": 5}]
)
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        MetaModelSettings(**wrong)


# Repeat purchases.


BOTH = LogisticModel(["a", "b"], [1.0, 2.0], [2.0, 4.0], [3.0, -1.0], -2.0, Weights([-1.0, 2.0], 0.5))


def test_repeat_purchase_has_weights_of_its_own() -> None:
    features = np.array([[[3, 5, 1], [3, 5, 1]], [[6, 6, 6], [-2, -2, -2]]], np.float32)
    found = BOTH.log_odds(features, (np.array([0, 1]), np.array([1, 2])))

    def first(a: float, b: float) -> float:
        return -2 + 3 * (a - 1) / 2 - (b - 2) / 4

    def repeat(a: float, b: float) -> float:
        return 0.5 - (a - 1) / 2 + 2 * (b - 2) / 4

    expected = [[first(3, 6), repeat(5, 6), first(1, 6)], [first(3, -2), first(5, -2), repeat(1, -2)]]
    assert_allclose(found, expected, rtol=1e-6)
    side_by_side = np.ascontiguousarray(features.transpose(1, 0, 2)).transpose(1, 0, 2)
    assert_allclose(BOTH.log_odds(side_by_side, (np.array([0, 1]), np.array([1, 2]))), expected, rtol=1e-6)


def test_without_weights_of_their_own_repeat_purchases_have_those_of_new_sales() -> None:
    features, cells = np.ones((3, 1, 2), np.float32), (np.array([0]), np.array([1]))
    assert_allclose(MODEL.log_odds(features, cells), MODEL.log_odds(features))


def test_weights_of_repeat_purchases_are_kept_over_other_features_and_in_json() -> None:
    wider = BOTH.over(["b", "new", "a"])
    values = np.array([[[6, 2]], [[7, 7]], [[3, 1]]], np.float32)
    cells = np.array([0]), np.array([1])
    assert_allclose(wider.log_odds(values, cells), BOTH.log_odds(values[::-2], cells), rtol=1e-6)
    assert meta_model_from_json(wider.to_json()) == wider


def test_model_of_an_earlier_version_keeps_its_weights_of_repeat_purchases() -> None:
    model = LogisticModel(["a"], [0.0], [1.0], [2.0], 1.0, repeat=Weights([0.5], -1.0))
    earlier = model.to_json().replace('"repeat"', '"again"')
    assert '"again"' in earlier
    assert meta_model_from_json(earlier) == model
