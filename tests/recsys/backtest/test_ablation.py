import numpy as np
import pytest

from recsys.backtest import ablation as module
from recsys.backtest.ablation import ablated_features, ablation, drawn, is_variant, learning_curve, learning_days
from recsys.meta_model import MetaModelSettings
from recsys.meta_model.training import Examples, predict, train
from recsys.metrics import bootstrap
from tests.helpers.measured_pages import measured, row

FEATURES = ["popularity", "taste"]


def examples(n: int = 4000, seed: int = 1) -> Examples:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 2)).astype(np.float32)
    bought = rng.random(n) < 1 / (1 + np.exp(2 - features @ [1.0, 2.0]))
    return Examples(FEATURES, features, bought, np.where(bought, 1.0, 0.1), np.zeros(n, bool), np.zeros(n, int))


def test_models_of_an_ablation_use_the_features_that_their_policy_names():
    assert ablated_features(FEATURES) == {
        "ablation: all features": ["popularity", "taste"],
        "ablation: without popularity": ["taste"],
        "ablation: without taste": ["popularity"],
        "ablation: popularity only": ["popularity"],
        "ablation: popularity and taste": ["popularity", "taste"],
    }
    assert all(is_variant(policy) for policy in ablated_features(FEATURES))
    assert not any(is_variant(policy) for policy in ("meta", "meta@7", "meta_without_images", *FEATURES))


def test_ablation_of_two_features_is_the_difference_on_the_same_pages():
    ranks = {
        "popularity": [1, 3],
        "taste": [1, 3],
        "ablation: all features": [1, 1],
        "ablation: without popularity": [1, 3],
        "ablation: without taste": [3, 3],
        "ablation: popularity only": [3, 3],
        "ablation: popularity and taste": [3, 1],
    }
    pages = measured(
        [  # ndcg@10 of rank 1 is 1, of rank 3 is 1/2
            row(policy, user, [rank], [7])
            for policy, of_users in ranks.items()
            for user, rank in zip("uv", of_users, strict=True)
        ]
    )
    popularity, taste = ablation(pages, FEATURES, seed=0)
    assert popularity["feature"] == "popularity"
    assert popularity["added"] == {"value": 0, "low": 0, "high": 0}
    assert (popularity["alone"]["value"], popularity["removed"]["value"]) == (3 / 4, 1 / 4)
    assert (taste["alone"]["value"], taste["added"]["value"], taste["removed"]["value"]) == (3 / 4, 1 / 4, 1 / 2)
    differences = np.array([1 - 1 / 2, 1 - 1 / 2])  # without taste
    assert taste["removed"] == bootstrap({"m": differences}, np.array(["u", "v"]))["m"]._asdict()


def test_model_without_a_feature_predicts_worse():
    rows = examples()
    losses = {}
    for policy, names in ablated_features(FEATURES).items():
        model = train(rows.over(names), MetaModelSettings(kind="logistic"))
        assert model.features == names
        losses[policy] = np.mean((predict(model, rows.over(names)) - rows.bought) ** 2)
    assert losses["ablation: all features"] < losses["ablation: without popularity"]
    assert losses["ablation: without popularity"] < losses["ablation: without taste"]
    assert losses["ablation: popularity and taste"] == losses["ablation: all features"]


def test_sample_keeps_the_share_of_purchases_and_is_fixed_by_the_seed(monkeypatch):
    rows = examples(n=20_000)
    assert drawn(rows, seed=0) is rows
    monkeypatch.setattr(module, "MAX_EXAMPLES", 2_000)
    some = drawn(rows, seed=0)
    assert len(some.bought) == 2_000
    assert some.bought.mean() == pytest.approx(rows.bought.mean(), abs=0.03)
    assert np.array_equal(some.features, drawn(rows, seed=0).features)
    assert not np.array_equal(some.features, drawn(rows, seed=1).features)
    whole, part = (train(each, MetaModelSettings(kind="logistic")) for each in (rows, some))
    assert part.intercept == pytest.approx(whole.intercept, abs=0.3)  # the correction for sampling stays


@pytest.mark.parametrize(("days", "points"), [(28, [4, 7, 14, 28]), (3, [1, 2, 3]), (1, [1]), (8, [1, 2, 4, 8])])
def test_learning_curve_has_points_at_an_eighth_a_quarter_half_and_all_of_the_days(days, points):
    assert learning_days(days) == points


def test_points_of_a_learning_curve_are_the_means_of_their_pages():
    pages = measured(
        [
            *(row("learning curve: 1 days", user, [3], [0]) for user in "uv"),
            *(row("learning curve: 2 days", user, [rank], [0]) for user, rank in (("u", 1), ("v", 3))),
        ]
    )
    points = [("learning curve: 1 days", 1, 40), ("learning curve: 2 days", 2, 90)]
    assert learning_curve(pages, points, seed=0) == [
        {"days": 1, "examples": 40, "ndcg@10": {"value": 1 / 2, "low": 1 / 2, "high": 1 / 2}},
        {"days": 2, "examples": 90, "ndcg@10": {"value": 3 / 4, "low": 1 / 2, "high": 1}},
    ]
