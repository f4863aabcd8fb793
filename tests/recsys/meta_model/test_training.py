from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from recsys.errors import EmptyInputError
from recsys.meta_model import LogisticModel, MetaModelSettings, probability
from recsys.meta_model.training import Examples, evaluate, predict, train

SETTINGS = MetaModelSettings(kind="logistic", bends=False, days=3)
COLUMNS = ("features", "bought", "sampling_rate", "repeat", "position")


def new_and_not_shown(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(n, bool), np.zeros(n, int)


def examples(rows: list[tuple[float, bool, float]]) -> Examples:
    feature, bought, rate = map(np.array, zip(*rows, strict=True))
    return Examples(["x"], feature.astype(np.float32)[:, None], bought, rate, *new_and_not_shown(len(rows)))


def test_feature_without_information_leaves_the_share_of_purchases() -> None:
    model = train(
        examples(
            [
                (0, True, 1.0),
                (1, True, 1.0),
                (0, False, 0.5),  # stands for 2
                (1, False, 0.5),  # stands for 2
                (0, False, 0.1),  # stands for 10
                (1, False, 0.1),  # stands for 10
            ]
        ),
        SETTINGS,
    )
    assert model.coefficients == pytest.approx([0], abs=1e-6)
    # 2 purchases; 2 + 2 + 10 + 10 sales not bought.
    assert_allclose(probability(model.log_odds(np.zeros((1, 1), np.float32))), [2 / (2 + 24)], rtol=1e-5)


def test_features_are_standardised() -> None:
    model = train(examples([(10, True, 1.0), (30, False, 1.0), (10, False, 1.0), (30, True, 1.0)]), SETTINGS)
    assert (model.features, model.means, model.scales) == (["x"], [20], [10])


def test_constant_feature_has_no_effect() -> None:
    model = train(examples([(7, True, 1.0), (7, False, 0.5)]), SETTINGS)
    assert (model.scales, model.coefficients) == ([1], [0])
    assert np.isfinite(model.intercept)


@pytest.mark.parametrize(
    ("rows", "found", "advice"),
    [
        ([(1, True, 1.0)], "1 purchase and 0 sales not bought", "give days on which several sales are open"),
        ([(1, False, 0.5), (2, False, 0.5)], "0 purchases and 2 sales not bought", "give later days"),
    ],
)
def test_examples_of_one_class_are_an_error_that_counts_them(rows: list, found: str, advice: str) -> None:
    rule = "in the 3 days before as_of, needs at least 1 of each"
    with pytest.raises(EmptyInputError, match=f"{found} {rule}: {advice}"):
        train(examples(rows), SETTINGS)


class Population:
    """Pages of 40 sales with known log-odds: about 3 % of the cells are bought."""

    def __init__(self, seed: int, n_pages: int = 4000) -> None:
        rng = np.random.default_rng(seed)
        self.features = rng.normal([0, 2, 0], [1, 3, 0.5], (n_pages, 40, 3)).astype(np.float32)
        self.log_odds = -5 + self.features @ np.array([1.0, 0.3, -1.5])
        self.bought = rng.random((n_pages, 40)) < 1 / (1 + np.exp(-self.log_odds))
        self._rng = rng

    def sample(self, negatives: int) -> Examples:
        """Return examples with `negatives` sales per purchase, drawn from those of the page that were not bought."""
        keys = self._rng.random(self.bought.shape)
        keys[self.bought] = np.inf
        wanted = negatives * self.bought.sum(axis=1)
        drawn = (keys.argsort(axis=1).argsort(axis=1) < wanted[:, None]) & ~self.bought
        rates = drawn.sum(axis=1) / np.maximum((~self.bought).sum(axis=1), 1)
        chosen = (self.bought | drawn) & self.bought.any(axis=1)[:, None]
        return Examples(
            ["a", "b", "c"],
            self.features[chosen],
            self.bought[chosen],
            np.where(self.bought, 1.0, rates[:, None])[chosen],
            *new_and_not_shown(chosen.sum()),
        )

    def of_buyers(self) -> "tuple[list[np.ndarray], np.ndarray]":
        """Return features and purchases of the pages with a purchase, to which the probabilities refer."""
        pages = self.bought.any(axis=1)
        return list(np.moveaxis(self.features[pages], 2, 0)), self.bought[pages]


@pytest.fixture(scope="module")
def population() -> Population:
    return Population(seed=5)


def test_corrected_intercept_recovers_the_share_of_purchases(population: Population) -> None:
    sample = population.sample(negatives=5)
    model = train(sample, MetaModelSettings(kind="logistic", bends=False, negatives=5))
    features, bought = population.of_buyers()
    predicted = probability(model.log_odds(np.stack(features)))
    assert sample.bought.mean() > 2.5 * bought.mean()  # so an uncorrected intercept would be far off
    assert predicted.mean() == pytest.approx(bought.mean(), rel=0.1)


def test_slopes_are_those_of_the_population(population: Population) -> None:
    model = train(population.sample(negatives=5), MetaModelSettings(kind="logistic", bends=False, negatives=5))
    assert_allclose(np.divide(model.coefficients, model.scales), [1.0, 0.3, -1.5], rtol=0.1)


def test_metrics_do_not_depend_on_the_sampling_rate(population: Population) -> None:
    few, many = population.sample(negatives=5), population.sample(negatives=1000)
    assert len(many.bought) > 2 * len(few.bought)
    model = train(many, SETTINGS)
    measured, truth = evaluate(model, few), evaluate(model, many)
    assert measured["auc"] == pytest.approx(truth["auc"], abs=0.01)
    assert measured["log_loss"] == pytest.approx(truth["log_loss"], rel=0.03)
    assert measured["calibration"] == pytest.approx(truth["calibration"], rel=0.05)


def test_metrics_weight_each_example_by_the_sales_that_it_stands_for() -> None:
    odds = LogisticModel(["x"], [0.0], [1.0], [1.0], 0.0)  # the log-odds are x
    rows = [
        (np.log(3), True, 1.0),  # p = 3/4
        (-np.log(3), True, 1.0),  # p = 1/4
        (0, False, 0.5),  # p = 1/2, stands for 2
        (-np.log(9), False, 0.25),  # p = 1/10, stands for 4
    ]
    measured = evaluate(odds, examples(rows))
    # Pairs in order: 3/4 beats 2 + 4 of 6, 1/4 beats 4 of 6.
    assert measured["auc"] == pytest.approx((6 + 4) / 12)
    loss = -np.log(3 / 4) - np.log(1 / 4) - 2 * np.log(1 / 2) - 4 * np.log(9 / 10)
    assert measured["log_loss"] == pytest.approx(loss / (1 + 1 + 2 + 4))
    assert measured["calibration"] == pytest.approx((3 / 4 + 1 / 4 + 2 * 1 / 2 + 4 * 1 / 10) / 2)


def test_examples_without_a_feature_keep_all_other_columns() -> None:
    whole = Examples(
        ["a", "b", "c"],
        np.array([[1, 2, 3], [4, 5, 6]], np.float32),
        np.array([True, False]),
        np.array([1.0, 0.5]),
        np.array([False, True]),
        np.array([0, 7]),
    )
    without = whole.without("b")
    assert without.names == ["a", "c"]
    assert_array_equal(without.features, [[1, 3], [4, 6]])
    assert_array_equal(without.bought, [True, False])
    assert_array_equal(without.sampling_rate, [1.0, 0.5])
    assert_array_equal(without.repeat, [False, True])
    assert_array_equal(without.position, [0, 7])
    assert_array_equal(whole.features, [[1, 2, 3], [4, 5, 6]])
    assert whole.without("unknown").names == ["a", "b", "c"]


def test_model_without_a_feature_is_that_of_examples_that_never_had_it(population: Population) -> None:
    sample = population.sample(negatives=5)
    never = Examples(
        ["a", "c"], sample.features[:, [0, 2]], sample.bought, sample.sampling_rate, sample.repeat, sample.position
    )
    assert train(sample.without("b"), SETTINGS) == train(never, SETTINGS)


@pytest.mark.parametrize("bought", [True, False])
def test_examples_of_one_class_have_no_metrics(bought: bool) -> None:
    assert evaluate(LogisticModel(["x"], [0.0], [1.0], [1.0], 0.0), examples([(1, bought, 1.0)])) == {}


# Repeat purchases.


def both_kinds(n: int, repeats: int) -> Examples:
    """Examples of new sales, bought more often the higher x is, and of repeat purchases, bought less often."""
    rng = np.random.default_rng(4)
    repeat = np.arange(n) < repeats
    feature = rng.normal(size=n)
    bought = rng.random(n) < 1 / (1 + np.exp(-np.where(repeat, -2 * feature, feature - 1)))
    rate = np.where(bought, 1.0, np.where(repeat, 0.5, 0.2))
    return Examples(["x"], feature.astype(np.float32)[:, None], bought, rate, repeat, np.zeros(n, int))


def test_repeat_purchases_have_the_weights_of_a_fit_to_them_alone() -> None:
    sample = both_kinds(n=900, repeats=300)
    model = train(sample, MetaModelSettings(kind="logistic", bends=False, min_repeats=100))
    alone = [
        train(sample.where(kind), MetaModelSettings(kind="logistic", bends=False, min_repeats=100))
        for kind in (~sample.repeat, sample.repeat)
    ]
    model, *alone = (replace(each, calibration=None) for each in (model, *alone))  # they share one curve
    expected = np.where(sample.repeat, predict(alone[1], sample), predict(alone[0], sample))
    # Not to the last digit: the penalty is on features standardised over both kinds together.
    assert_allclose(predict(model, sample), expected, atol=2e-3)
    assert model.repeat is not None
    assert model.coefficients[0] > 0.5
    assert model.repeat.coefficients[0] < -1


@pytest.mark.parametrize("kind", ["bought before", "new"])
def test_all_examples_share_their_weights_if_one_kind_has_few(kind: str) -> None:
    sample = both_kinds(n=400, repeats=60 if kind == "bought before" else 340)
    model = train(sample, MetaModelSettings(kind="logistic", bends=False, min_repeats=40))
    assert model.repeat is None
    nobody = Examples(sample.names, sample.features, sample.bought, sample.sampling_rate, *new_and_not_shown(400))
    assert model == train(nobody, MetaModelSettings(kind="logistic", bends=False, min_repeats=40))
    assert train(sample, MetaModelSettings(kind="logistic", bends=False, min_repeats=10)).repeat is not None


def test_chosen_examples_keep_all_columns() -> None:
    whole = both_kinds(n=7, repeats=3)
    some = whole.where(np.array([True, False, False, True, False, False, True]))
    assert_array_equal(some.features, whole.features[[0, 3, 6]])
    assert_array_equal(some.bought, whole.bought[[0, 3, 6]])
    assert_array_equal(some.sampling_rate, whole.sampling_rate[[0, 3, 6]])
    assert_array_equal(some.repeat, [True, False, False])


# Positions on pages.


def logged_pages(seed: int, n_pages: int = 4000) -> Examples:
    """Pages of ten that an older model ranked by `old`: users buy by `taste`, and see high positions more often."""
    rng = np.random.default_rng(seed)
    old = -np.sort(-rng.normal(size=(n_pages, 10)), axis=1)  # the best first
    taste = rng.normal(size=(n_pages, 10))
    position = np.broadcast_to(np.arange(1, 11), (n_pages, 10))
    bought = rng.random((n_pages, 10)) < 1 / (1 + np.exp(4 - taste - 2 / np.log2(1 + position)))
    features = np.stack([old, taste], axis=2).reshape(-1, 2).astype(np.float32)
    n = len(features)
    return Examples(["old", "taste"], features, bought.ravel(), np.ones(n), np.zeros(n, bool), position.ravel())


def test_position_explains_purchases_that_the_older_models_feature_would_explain_otherwise() -> None:
    sample = logged_pages(seed=2)
    with_place, without = (
        train(sample, SETTINGS),
        train(replace(sample, position=np.zeros_like(sample.position)), SETTINGS),
    )
    slopes = [np.divide(model.coefficients, model.scales) for model in (with_place, without)]
    assert slopes[1][0] > 0.3  # `old` is independent of what users like
    assert abs(slopes[0][0]) < 0.1
    assert_allclose([slope[1] for slope in slopes], 1.0, atol=0.1)


def test_sale_that_was_not_shown_differs_from_one_of_a_day_without_a_log() -> None:
    shown, rng, n = logged_pages(seed=5), np.random.default_rng(6), 20_000
    not_shown = np.arange(n) < n // 2  # no user buys a sale that was not shown; the older model ranked it lower
    old, taste = rng.normal(np.where(not_shown, -1, 0)), rng.normal(size=n)
    bought = ~not_shown & (rng.random(n) < 1 / (1 + np.exp(3 - taste)))
    features = np.concatenate([shown.features, np.stack([old, taste], axis=1).astype(np.float32)])
    position = np.concatenate([shown.position, np.where(not_shown, 0, -1)])
    rows = np.concatenate([shown.bought, bought]), np.ones(len(position)), np.zeros(len(position), bool)
    told = train(Examples(["old", "taste"], features, *rows, position), SETTINGS)
    untold = train(Examples(["old", "taste"], features, *rows, np.maximum(position, 0)), SETTINGS)
    assert abs(np.divide(told.coefficients, told.scales)[0]) < 0.1
    assert np.divide(untold.coefficients, untold.scales)[0] > 0.2


def test_position_is_no_feature_and_the_number_of_predicted_purchases_is_the_number_made() -> None:
    sample = logged_pages(seed=3)
    model = train(sample, SETTINGS)
    assert model.features == ["old", "taste"]
    assert predict(model, sample).sum() == pytest.approx(sample.bought.sum(), rel=1e-5)


def test_shown_and_drawn_sales_are_weighted_by_the_number_that_they_stand_for() -> None:
    sample = logged_pages(seed=4)
    rng = np.random.default_rng(0)
    n = 3000
    drawn = Examples(
        sample.names,
        rng.normal([-1, 0], 1, (n, 2)).astype(np.float32),
        np.zeros(n, bool),
        np.full(n, 0.05),  # each stands for 20 sales that were not shown
        *new_and_not_shown(n),
    )
    both = Examples(
        sample.names,
        *(np.concatenate([getattr(each, name) for each in (sample, drawn)]) for name in COLUMNS),
    )
    predicted = predict(train(both, SETTINGS), both)
    assert predicted @ (1 / both.sampling_rate) == pytest.approx(sample.bought.sum(), rel=1e-5)


def test_position_features_are_whether_and_at_which_position_a_sale_was_shown() -> None:
    sample = replace(both_kinds(n=4, repeats=1), position=np.array([0, 1, 3, -1]))
    assert_allclose(sample.position_features, [[0, 0, 1], [1, 1, 1], [1, 1 / 2, 1], [0, 0, 0]])
    assert both_kinds(n=4, repeats=1).position_features.shape == (4, 0)
    assert_array_equal(sample.where(np.array([True, False, True, False])).position, [0, 3])
