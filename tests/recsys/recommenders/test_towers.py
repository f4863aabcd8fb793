"""Towers: the scores of given weights."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from recsys.errors import ModelError
from recsys.ranking.scorer import pack, unpack
from recsys.recommenders import RecommenderSettings, tower_families
from recsys.recommenders.towers import (
    TOWERS_FILE,
    Layer,
    Towers,
    TowersModel,
    TowersSettings,
    TowerWeights,
    read_towers,
)
from recsys.testing.shops import AS_OF, HISTORY, ShopData, make_shop, purchase, random_shop, sale, visit
from tests.helpers.shops import with_photos
from tests.helpers.towers import random_towers

SETTINGS = TowersSettings(half_life_days=1.0, purchase_weight=3.0, prior_events=0.5)
SHOP = with_photos(random_shop(11, n_users=29, n_sales=17, n_events=500))


def towers_of(shop: ShopData, weights: TowerWeights) -> Towers:
    return Towers(SETTINGS, tower_families(RecommenderSettings(), shop.catalogue), weights)


def fitted(shop: ShopData, weights: TowerWeights) -> TowersModel:
    towers = towers_of(shop, weights)
    return towers.fit(towers.count(shop.histories(), shop.horizon()), shop.horizon())


def layer(weights: list[list[float]], bias: list[float]) -> Layer:
    return Layer(np.array(weights, np.float32), np.array(bias, np.float32))


# One feature, one dimension: user = 3 x + 5 log(1 + weight) - 1, sale = 4 value + 0.5.
WEIGHTS = TowerWeights(["content_metadata/country=FR"], layer([[3.0], [5.0]], [-1.0]), layer([[4.0]], [0.5]))


def test_score_is_the_product_of_both_towers_over_what_is_seen_and_expected():
    shop = make_shop(
        [sale("a", country="FR"), sale("b", country="IT"), sale("c", 0.5, 2, country="FR")],
        [visit("u", "a", -1), purchase("u", "b", -2), visit("v", "b", -1)],
        users=["u", "v", "w"],
    )
    u, v, w = fitted(shop, WEIGHTS).score(shop.histories())
    # weights of u: 1/2 for the visit of a, 3/4 for the purchase of b; of v: 1/2; FR has 0.5 of all 1.75
    share, prior = 0.5 / 1.75, 0.5

    def user(seen: float, total: float) -> float:
        x = np.log((seen + prior) / (total * share + prior))
        return float(3 * x + 5 * np.log1p(total) - 1)

    sales = np.array([4.5, 0.5, 4.5])  # c has not opened yet
    np.testing.assert_allclose(u, user(0.5, 1.25) * sales, rtol=1e-5)
    np.testing.assert_allclose(v, user(0, 0.5) * sales, rtol=1e-5)
    np.testing.assert_allclose(w, -sales, rtol=1e-5)  # no event: only the bias


def test_scores_are_those_of_the_same_networks_in_torch():
    weights, known, horizon = random_towers(SHOP.catalogue), SHOP.histories(), SHOP.horizon()
    towers = towers_of(SHOP, weights)
    values = torch.from_numpy(towers.values.toarray())
    seen = known.matrix(known.weights(SETTINGS.half_life_days, SETTINGS.purchase_weight)).toarray()
    totals, prior = torch.from_numpy(seen.sum(axis=1, keepdims=True)), SETTINGS.prior_events
    counts = torch.from_numpy(seen) @ values
    shares = counts.sum(dim=0) / totals.sum()
    inputs = torch.cat([torch.log((counts + prior) / (totals * shares + prior)), torch.log1p(totals)], dim=1)

    def linear(x: torch.Tensor, layer: Layer) -> torch.Tensor:
        return torch.nn.functional.linear(x, torch.from_numpy(layer.weights.T), torch.from_numpy(layer.bias))

    expected = linear(inputs, weights.user) @ linear(values[horizon.sales], weights.sale).T
    np.testing.assert_allclose(fitted(SHOP, weights).score(known), expected.numpy(), rtol=1e-5, atol=1e-5)


def test_user_scores_the_same_alone_and_in_a_block_to_the_last_bit():
    model = fitted(SHOP, random_towers(SHOP.catalogue))
    together = model.score(SHOP.histories())
    for user in range(29):
        alone = model.score(SHOP.block.take(np.array([user])).as_of(AS_OF, HISTORY))
        assert_array_equal(alone[0], together[user])


def test_saved_arrays_score_without_the_catalogue_and_its_features():
    weights = random_towers(SHOP.catalogue)
    model = fitted(SHOP, weights)
    nothing = Towers(SETTINGS, [], WEIGHTS)
    loaded = nothing.load(unpack(pack(model.arrays())), SHOP.horizon())
    assert_array_equal(loaded.score(SHOP.histories()), model.score(SHOP.histories()))


def test_features_are_found_by_name_and_those_that_were_not_learnt_count_for_nothing():
    sales, events = [sale("a", country="FR"), sale("b", country="IT")], [visit("u", "a", -1), visit("u", "b", -0.5)]
    # In the other shop, features of other names stand before and behind, and one of the learnt ones is gone.
    other_sales = [sale("a", country="FR", area="sea"), sale("b", country="IT", village="yes")]
    both = TowerWeights(
        ["content_metadata/country=XX", *WEIGHTS.features],
        layer([[9.0], [3.0], [5.0]], [-1.0]),
        layer([[9.0], [4.0]], [0.5]),
    )
    shop, other = make_shop(sales, events), make_shop(other_sales, events)
    assert_array_equal(fitted(other, both).score(other.histories()), fitted(shop, WEIGHTS).score(shop.histories()))


def test_weights_in_a_file_are_the_same_to_the_last_bit(tmp_path):
    weights = random_towers(SHOP.catalogue)
    (tmp_path / TOWERS_FILE).write_text(weights.to_json())
    found = read_towers(tmp_path / TOWERS_FILE)
    assert found is not None
    assert found.features == weights.features
    for name in ("user", "sale"):
        for one, other in zip(getattr(found, name), getattr(weights, name), strict=True):
            assert_array_equal(one, other)


def test_folder_without_towers_has_none(tmp_path):
    assert read_towers(tmp_path / TOWERS_FILE) is None
    (tmp_path / TOWERS_FILE).write_text("")
    assert read_towers(tmp_path / TOWERS_FILE) is None


def test_damaged_file_is_named_with_the_next_step(tmp_path):
    (tmp_path / TOWERS_FILE).write_text(WEIGHTS.to_json()[:-9])
    with pytest.raises(ModelError, match=rf"{TOWERS_FILE}: these are no weights of towers .* 'recsys nightly'"):
        read_towers(tmp_path / TOWERS_FILE)
