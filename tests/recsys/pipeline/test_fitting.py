from dataclasses import replace

import numpy as np
import pytest

from recsys.pipeline import fitting
from recsys.pipeline.fitting import fitted_recommenders, in_memory_groups
from recsys.ranking.refreshed import kept_statistics
from recsys.ranking.scorer import unpack
from recsys.recommenders import Recommender, RecommenderSettings, Statistics
from recsys.testing.shops import random_shop

Models = dict[tuple[int, str], dict[str, np.ndarray]]


def models(frame) -> Models:
    return {(row["as_of"], row["recommender"]): unpack(bytes(row["arrays"])) for row in frame.collect()}


def in_one_block(fitted, instants: list[int]) -> Models:
    """Return each model's arrays, and the sums by sale that it was fitted to."""

    def sums(recommender: Recommender, as_of: int) -> Statistics:
        known = fitted.data.block.as_of(as_of, fitted.shop.history)
        return kept_statistics(recommender.count(known, fitted.shop.horizon(as_of)))

    return {
        (as_of, recommender.name): {**model.arrays(), **sums(recommender, as_of)}
        for as_of in instants
        for recommender, model in zip(fitted.shop.recommenders, fitted.scorer(as_of).models, strict=True)
    }


def assert_equal(found: Models, expected: Models) -> None:
    assert found.keys() == expected.keys()
    for key, arrays in expected.items():
        assert found[key].keys() == arrays.keys()
        for name, values in arrays.items():
            np.testing.assert_allclose(found[key][name], values, rtol=1e-5, err_msg=f"{key} {name}")


@pytest.mark.parametrize("partitions", [1, 4])
def test_fitting_in_partitions_equals_fitting_in_one_block(fitted, partitions):
    found = fitted_recommenders(fitted.histories.repartition(partitions), fitted.shop, fitted.instants)
    expected = in_one_block(fitted, fitted.instants)
    assert sum(array.size for arrays in expected.values() for array in arrays.values()) > 500
    assert_equal(models(found), expected)


def test_fitting_instants_in_several_passes_equals_fitting_them_in_one(fitted, monkeypatch):
    monkeypatch.setattr(fitting, "STATISTICS_BYTES", 1)
    assert in_memory_groups(fitted.shop, fitted.instants) == [[instant] for instant in fitted.instants]
    found = fitted_recommenders(fitted.histories, fitted.shop, fitted.instants)
    assert_equal(models(found), in_one_block(fitted, fitted.instants))


def test_instants_are_grouped_by_the_memory_of_their_statistics(fitted, monkeypatch):
    sizes = [4 * len(fitted.data.catalogue) * (len(fitted.shop.horizon(as_of)) + 4) for as_of in fitted.instants]
    monkeypatch.setattr(fitting, "STATISTICS_BYTES", sizes[0] + sizes[1])
    assert in_memory_groups(fitted.shop, fitted.instants) == [fitted.instants[:2], fitted.instants[2:]]


def test_statistics_cut_into_many_parts_in_any_order_fit_the_same_model(fitted, monkeypatch):
    monkeypatch.setattr(fitting, "PART_BYTES", 28)  # seven numbers: parts that end within a row
    batch = fitted.histories.toArrow().combine_chunks().to_batches()[0]
    as_of = fitted.instants[-1]
    halves = (batch.slice(0, 11), batch.slice(11))
    parts = [
        part
        for half in halves
        for part in fitting._cut_into_parts(fitting._count_statistics([half], fitted.shop, [as_of]))
    ]
    assert len(parts) > 50
    order = np.random.default_rng(0).permutation(len(parts))
    found: Models = {}
    for name in {recommender.counted_by for recommender in fitted.shop.recommenders}:
        own = [parts[n] for n in order if parts[n].column("recommender")[0].as_py() == name]
        for row in fitting._fit_from_parts(own, fitted.shop).to_pylist():
            found[row["as_of"], row["recommender"]] = unpack(row["arrays"])
    assert_equal(found, in_one_block(fitted, [as_of]))


def test_statistics_shared_by_several_recommenders_are_counted_once(fitted):
    batch = fitted.histories.toArrow().combine_chunks().to_batches()[0]
    sums = fitting._count_statistics([batch], fitted.shop, fitted.instants[:1])
    names = [name for _, name in sums]
    assert names.count("collaborative") == 1
    assert not {"collaborative_conditional", "collaborative_lift"} & set(names)


def test_recommender_is_fitted_without_the_one_that_it_shares_statistics_with(fitted_shop):
    data = random_shop(2, n_users=9, n_sales=12, n_events=90)
    shop = fitted_shop(data)
    alone = replace(shop.shop, recommender_settings=RecommenderSettings(without=("collaborative",)))
    found = models(fitted_recommenders(shop.histories, alone, shop.instants[-1:]))
    expected = {
        key: arrays for key, arrays in in_one_block(shop, shop.instants[-1:]).items() if key[1] != "collaborative"
    }
    assert_equal(found, expected)


def test_shop_with_a_single_event_is_fitted(fitted_shop):
    data = random_shop(1, n_users=2, n_sales=3, n_events=1)
    shop = fitted_shop(data)
    assert_equal(
        models(fitted_recommenders(shop.histories, shop.shop, shop.instants[-1:])),
        in_one_block(shop, shop.instants[-1:]),
    )
