from recsys.backtest.coefficients import WORDS, coefficients
from recsys.config.settings import _NO_SALES
from recsys.meta_model import LogisticModel, Weights
from recsys.recommenders import RecommenderSettings, recommenders
from recsys.recommenders.towers import NO_TOWERS


def test_exactly_the_features_have_a_sentence():
    names = [each.name for each in recommenders(RecommenderSettings(), _NO_SALES, NO_TOWERS)]
    assert list(WORDS) == names
    assert len(set(WORDS.values())) == len(names)
    assert all(words.endswith(".") for words in WORDS.values())


def test_coefficients_come_in_the_order_of_the_model_with_those_of_repeat_purchases():
    model = LogisticModel(
        ["popularity", "activity"], [0.0, 0.0], [1.0, 2.0], [0.5, -1.0], -3.0, Weights([0.25, 0.0], -1)
    )
    assert coefficients(model) == [
        {"feature": "popularity", "words": WORDS["popularity"], "first": 0.5, "repeat": 0.25},
        {"feature": "activity", "words": WORDS["activity"], "first": -1.0, "repeat": 0.0},
    ]


def test_model_without_coefficients_of_repeat_purchases_has_one_per_feature():
    rows = coefficients(LogisticModel(["popularity"], [0.0], [1.0], [0.5], -3.0))
    assert rows == [{"feature": "popularity", "words": WORDS["popularity"], "first": 0.5}]
