import numpy as np
import pytest

from recsys.ranking.ranker import Ranker
from recsys.ranking.refreshed import kept_statistics, refreshed_scorer
from recsys.ranking.scorer import Scorer, pack
from recsys.recommenders import RecommenderSettings, recommenders
from recsys.shop.refreshed import refreshed_catalogue, refreshed_horizon
from recsys.testing.shops import AS_OF, HISTORY, make_shop, random_shop, sale
from tests.helpers.towers import random_towers

SETTINGS = RecommenderSettings()
NEW = sale("s05-new", -0.1, 2, title="ski spa", price=80.0, country="FR")
"""A sale without an event whose place in a night would be among the known ones."""


def fitted_arrays(shop) -> dict[str, bytes]:
    """Return what table `fitted_recommenders` holds of a shop's night."""
    known, horizon = shop.histories(), shop.horizon()
    rows = {}
    for each in recommenders(SETTINGS, shop.catalogue, random_towers(shop.catalogue)):
        statistics = each.count(known, horizon)
        rows[each.name] = pack({**each.fit(statistics, horizon).arrays(), **kept_statistics(statistics)})
    return rows


def test_refreshed_features_are_those_of_a_night_that_knew_the_sale():
    shop = random_shop(3)
    night = make_shop([*shop.sale_rows, NEW], shop.event_rows, users=shop.block.user_ids.to_pylist())
    towers = random_towers(shop.catalogue)
    everything = recommenders(SETTINGS, night.catalogue, towers)
    horizon = night.horizon()
    models = [each.fit(each.count(night.histories(), horizon), horizon) for each in everything]
    expected = Scorer(horizon, everything, models).features(night.histories())

    merged = refreshed_catalogue(shop.catalogue, night.catalogue, AS_OF)
    catalogue, wider = refreshed_horizon(shop.horizon(), merged)
    scorer = refreshed_scorer(recommenders(SETTINGS, catalogue, towers), fitted_arrays(shop), wider, len(catalogue))
    block = shop.block.__class__(**{**shop.block.__dict__, "n_sales": len(catalogue)})
    found = scorer.features(block.as_of(AS_OF, HISTORY))

    columns = [night.catalogue.position[catalogue.sale_ids[place]] for place in wider.sales]
    columns = [horizon.sales.tolist().index(place) for place in columns]
    assert columns != sorted(columns)
    for name, ours, theirs in zip(scorer.names, found, expected, strict=True):
        theirs = theirs[:, columns] if theirs.shape[1] > 1 else theirs
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=name)
    assert isinstance(Ranker(scorer, None).shared_ranking("popularity", len(catalogue)).sales, np.ndarray)


def test_only_sums_by_sale_are_kept():
    assert kept_statistics({"events": np.ones(3, np.float32)}).keys() == {"statistics/events"}
    assert kept_statistics({"users": np.ones(3, np.float32), "pairs": np.ones((3, 2), np.float32)}) == {}
    assert kept_statistics({}) == {}


def test_night_of_an_earlier_version_has_no_statistics():
    shop = random_shop(3)
    known, horizon = shop.histories(), shop.horizon()
    everything = recommenders(SETTINGS, shop.catalogue)
    arrays = {each.name: pack(each.fit(each.count(known, horizon), horizon).arrays()) for each in everything}
    with pytest.raises(KeyError, match="events"):
        refreshed_scorer(everything, arrays, horizon, len(shop.catalogue))
