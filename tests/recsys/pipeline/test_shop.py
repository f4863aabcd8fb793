from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from shops import AS_OF, make_shop, sale, visit

from recsys.errors import EmptyInputError
from recsys.instants import DAY
from recsys.recommenders import RecommenderSettings


def test_catalogue_is_that_of_the_folder(fitted):
    assert fitted.shop.catalogue.sale_ids == fitted.data.catalogue.sale_ids
    assert fitted.shop.catalogue is replace(fitted.shop).catalogue  # kept between tasks of a worker


def test_other_version_is_read_again(fitted_shop):
    shop = fitted_shop(make_shop([sale("a", -9, 9)], [visit("u", "a", -1)])).shop
    assert shop.catalogue.sale_ids == ["a"]
    pq.write_table(make_shop([sale("b", -9, 9)], []).sales, f"{shop.folder}/sales/part.parquet")
    assert shop.catalogue.sale_ids == ["a"]
    assert replace(shop, version="2").catalogue.sale_ids == ["b"]


def test_scorer_is_that_of_the_instant(fitted):
    for as_of in fitted.instants:
        scorer = fitted.shop.scorer(as_of)
        assert scorer.horizon.as_of == as_of
        known = fitted.data.block.as_of(as_of, fitted.shop.history)
        for found, expected in zip(scorer.features(known), fitted.scorer(as_of).features(known), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_recommenders_that_are_left_out_are_not_loaded(fitted):
    shop = replace(fitted.shop, recommender_settings=RecommenderSettings(without=("collaborative", "activity")))
    names = [recommender.name for recommender in shop.recommenders]
    assert shop.scorer(AS_OF).names == names
    assert {"collaborative", "activity"}.isdisjoint(names)


def test_instant_at_which_no_sale_is_open_is_an_error_that_names_its_window(fitted):
    with pytest.raises(EmptyInputError, match=r"no sale is open in \[2027-03-01 00:00, 2027-03-02 12:00\) UTC"):
        fitted.shop.horizon(AS_OF + 365 * DAY)
