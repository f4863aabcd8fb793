from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.special import expit

from recsys.meta_model import Calibration, LogisticModel, MetaModelSettings, meta_model_from_json
from recsys.meta_model.basket import Basket
from recsys.meta_model.calibration import fit_calibration
from recsys.meta_model.training import Examples, predict, train

CURVE = Calibration([-60.0, -2.0, 1.0, 60.0], [-118.0, -2.0, 2.0, 31.5])


def ones(log_odds: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.ones(len(log_odds))


def drawn(true_log_odds: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(len(true_log_odds)) < expit(true_log_odds)


def worst_tenth(predicted: NDArray[np.float64], bought: NDArray[np.bool_]) -> float:
    """Return the largest relative error of the tenths with at least 100 purchases."""
    tenths = np.array_split(np.argsort(predicted), 10)
    held = [tenth for tenth in tenths if bought[tenth].sum() >= 100]
    assert len(held) >= 3
    return max(abs(predicted[tenth].sum() / bought[tenth].sum() - 1) for tenth in held)


@pytest.mark.parametrize(("said", "true"), [(-3.0, -4.0), (-2.0, -2.0), (0.0, 2 / 3), (2.0, 2.5), (60.0, 31.5)])
def test_curve_is_linear_between_its_points(said: float, true: float) -> None:
    found = CURVE(np.full((2, 1), said, np.float32))
    assert found.dtype == np.float32
    assert_allclose(found, np.full((2, 1), true), rtol=1e-6)


def test_curve_of_many_log_odds_equals_interpolation_one_by_one() -> None:
    log_odds = np.random.default_rng(0).normal(-1, 30, (3, 601)).astype(np.float32)
    assert (np.abs(log_odds) > 60).any()  # beyond the ends the curve is flat
    assert_allclose(CURVE(log_odds), np.interp(log_odds, CURVE.said, CURVE.true), rtol=1e-6, atol=1e-6)


def test_overconfident_log_odds_are_corrected() -> None:
    log_odds = np.random.default_rng(1).normal(-3, 2.0, 60_000)
    true = np.where(log_odds > -2, -2 + 0.5 * (log_odds + 2), log_odds)  # of slope 1/2 above -2
    train_on, measure_on = drawn(true, seed=2), drawn(true, seed=3)
    curve = fit_calibration(log_odds, train_on, ones(log_odds))
    assert worst_tenth(expit(log_odds), measure_on) > 0.3
    assert worst_tenth(expit(curve(log_odds)).astype(float), measure_on) < 0.1


def test_calibrated_log_odds_stay_as_they_are() -> None:
    log_odds = np.random.default_rng(4).normal(-3, 1.5, 60_000)
    curve = fit_calibration(log_odds, drawn(log_odds, seed=5), ones(log_odds))
    some = np.array([-5.0, -3.0, -1.0, 0.5])
    assert_allclose(curve(some), some, atol=0.25)


def test_number_of_predicted_purchases_is_the_number_made() -> None:
    log_odds = np.random.default_rng(6).normal(size=5_000)
    bought = drawn(-2 - log_odds**2, seed=7)
    weights = np.where(bought, 1.0, 4.0)  # a quarter of those not bought are examples
    curve = fit_calibration(log_odds, bought, weights)
    assert expit(curve(log_odds)) @ weights == pytest.approx(bought.sum(), rel=1e-3)


def test_curve_increases_even_if_purchases_decrease_with_the_log_odds() -> None:
    log_odds = np.linspace(-4, 4, 4_001)
    curve = fit_calibration(log_odds, log_odds < -1, ones(log_odds))  # only sales with low log-odds are bought
    assert (np.diff(curve.said) > 0).all()
    assert (np.diff(curve.true) > 0).all()
    assert (np.diff(curve(log_odds)) > 0).all()


@pytest.mark.parametrize("purchases", [1, 3])
def test_few_purchases_shift_the_curve_and_hardly_change_its_slopes(purchases: int) -> None:
    log_odds = np.linspace(-3, 1, 40)
    bought = np.arange(40) >= 40 - purchases
    curve = fit_calibration(log_odds, bought, ones(log_odds))
    steps = np.diff(curve(log_odds)) / np.diff(log_odds)
    assert (abs(steps - 1) < 0.25).all()
    assert expit(curve(log_odds)).sum() == pytest.approx(purchases, rel=1e-3)


def test_training_calibrates_log_odds_that_are_not_linear() -> None:
    rng = np.random.default_rng(8)
    features = rng.normal(size=(80_000, 2)).astype(np.float32)
    said = 1.5 * features.sum(axis=1) - 3
    bought = drawn(np.where(said > -2, -2 + 0.4 * (said + 2), said), seed=9)
    new = np.zeros(80_000, bool)
    examples = Examples(["a", "b"], features, bought, np.ones(80_000), new, np.zeros(80_000, np.int32))
    even = np.arange(80_000) % 2 == 0
    model, held_out = (
        train(examples.where(even), MetaModelSettings(kind="logistic", bends=False)),
        examples.where(~even),
    )
    assert worst_tenth(predict(model, held_out), held_out.bought) < 0.1
    straight = predict(replace(model, calibration=None), held_out)
    assert worst_tenth(straight, held_out.bought) > 0.2
    assert (np.diff(predict(model, held_out)[np.argsort(straight, kind="stable")]) >= 0).all()


PAGES, OPEN, DRAWN = 3_000, 60, 30
"""Of pages, of sales open on each, and of those that were not bought and are examples."""


def pages(seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return a feature, and what was bought, of pages by a known law, shape (PAGES, OPEN).

    Users differ in how much they like of what is open, and buy 1.3 sales all the same.
    """
    rng = np.random.default_rng(seed)
    feature = rng.normal(size=(PAGES, OPEN)) + 0.5 * rng.normal(size=(PAGES, 1))
    log_odds = (1.5 * feature).astype(np.float32)
    shifts = Basket(np.log(1.3), 0.0).shifts(log_odds, np.ones(OPEN))
    return feature, rng.random((PAGES, OPEN)) < expit(log_odds + shifts[:, None])


def test_probabilities_with_the_shift_to_a_basket_are_calibrated_on_whole_pages() -> None:
    feature, bought = pages(seed=10)
    order = np.where(bought, 2.0, np.random.default_rng(11).random(bought.shape)).argsort(axis=1).argsort(axis=1)
    kept = bought | (order < DRAWN)
    rates = np.where(bought, 1.0, (kept & ~bought).sum(axis=1, keepdims=True) / (~bought).sum(axis=1, keepdims=True))
    page, n = np.nonzero(kept)[0], kept.sum()
    columns = feature[kept].astype(np.float32)[:, None], bought[kept], rates[kept], np.zeros(n, bool)
    examples = Examples(["a"], *columns, np.zeros(n, np.int32), page)
    model = train(examples, MetaModelSettings(kind="logistic", bends=False))

    feature, bought = pages(seed=12)  # of the same law, and all open sales
    said = model.calibrated(model.log_odds(feature.astype(np.float32)[None]))
    served = expit(said + model.shifts(said, np.ones(OPEN))[:, None])
    assert worst_tenth(served.ravel().astype(float), bought.ravel()) < 0.2  # the sampling error of 100 purchases is 0.1
    assert predict(model, examples) @ (1 / examples.sampling_rate) == pytest.approx(examples.bought.sum(), rel=1e-3)


def test_curve_fitted_with_shifts_predicts_with_them_and_continues_from_a_curve_nearby() -> None:
    rng = np.random.default_rng(13)
    log_odds, shifts = rng.normal(-3, 1.5, 20_000), rng.normal(0, 2, 20_000)
    bought = drawn(0.5 * log_odds + shifts, seed=14)
    curve = fit_calibration(log_odds, bought, ones(log_odds), shifts)
    assert_allclose(curve.slopes, 0.5, atol=0.15)
    assert expit(curve(log_odds) + shifts).sum() == pytest.approx(bought.sum(), rel=1e-3)
    again = fit_calibration(log_odds, bought, ones(log_odds), shifts, start=curve.raised(0.5))
    assert_allclose(again.true[1:-1], curve.true[1:-1], atol=1e-3)


def test_model_keeps_its_calibration_over_other_features_and_as_json() -> None:
    model = LogisticModel(["a", "b"], [0.0, 1.0], [1.0, 2.0], [0.5, -1.0], -3.0, calibration=CURVE)
    assert meta_model_from_json(model.to_json()) == model
    assert model.over(["b", "c"]).calibration == CURVE


def test_model_from_before_calibration_is_read_and_keeps_its_log_odds() -> None:
    text = '{"features": ["a"], "means": [0], "scales": [1], "coefficients": [2], "intercept": 1, "again": null}'
    model = meta_model_from_json(text)
    assert_array_equal(model.calibrated(np.array([0.5], np.float32)), np.array([0.5], np.float32))
