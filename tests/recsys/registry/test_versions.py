import pytest

from recsys.registry.log import Evidence
from recsys.registry.versions import differing, evidence, model_configuration, pairs
from tests.helpers.small_shop import SmallShop

WINDOW = {"from": "2026-03-01", "to": "2026-03-07", "versions": {"meta": "9", "meta@5": "5", "meta@6": "6"}}
ESTIMATE = {"value": 0.02, "low": -0.01, "high": 0.04}


def backtest() -> dict:
    return {"window": WINDOW, "paired_ndcg@10": {"meta@5 - meta@6": ESTIMATE, "meta - meta@5": ESTIMATE}}


def test_each_pair_of_policies_is_listed_once():
    assert pairs(["a", "b", "c"]) == {"a - b": ("a", "b"), "a - c": ("a", "c"), "b - c": ("b", "c")}


def test_evidence_is_version_minus_champion_in_either_order_of_the_backtest():
    days = {"run_id": "r", "first_day": "2026-03-01", "last_day": "2026-03-07"}
    assert evidence("r", backtest(), "5", "6") == Evidence(**days, value=0.02, low=-0.01, high=0.04)
    assert evidence("r", backtest(), "6", "5") == Evidence(**days, value=-0.02, low=-0.04, high=0.01)


def test_model_that_the_backtest_trained_is_a_version_too():
    assert evidence("r", backtest(), "9", "5").low == -0.01


@pytest.mark.parametrize("versions", [("5", "7"), ("7", "5"), ("6", "9")])
def test_without_both_versions_or_their_difference_there_is_no_evidence(versions):
    assert evidence("r", backtest(), *versions) is None


def test_backtest_without_versions_is_no_evidence():
    assert evidence("r", {"window": {"from": "", "to": ""}}, "5", "6") is None


def test_differing_settings_are_listed_with_both_values():
    one = {"a": {"x": 1, "y": [1, 2]}, "b": True, "only": {"here": 3}}
    other = {"a": {"x": 1, "y": [2, 1]}, "b": False}
    assert differing(one, other) == [("a.y", [1, 2], [2, 1]), ("b", True, False), ("only.here", 3, None)]
    assert differing(one, one) == []


def test_training_interval_and_location_of_photos_are_not_part_of_the_configuration(tmp_path):
    shop = SmallShop(tmp_path)
    usual = model_configuration(shop.settings())
    same = shop.settings(meta_model={"days": 3, "retrain_days": 2}, images={"root": "elsewhere"}, note="Mind this.")
    assert model_configuration(same) == usual


@pytest.mark.parametrize(
    "changes",
    [
        {"meta_model": {"days": 4}},
        {"history": {"days": 30}},
        {"horizon_hours": 48.0},
        {"recommenders": {"without": ("own_visits",)}},
        {"recommenders": {"popularity": {"half_life_days": 3.0}}},
        {"images": {"themes": {"themes": 12}}},
    ],
)
def test_settings_that_change_a_model_change_its_configuration(tmp_path, changes):
    shop = SmallShop(tmp_path)
    assert model_configuration(shop.settings(**changes)) != model_configuration(shop.settings())
