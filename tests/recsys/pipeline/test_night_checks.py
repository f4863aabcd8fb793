"""The checks of a night, each limit from both sides, and the values that are checked."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from recsys.config.pipeline import NightCheckSettings
from recsys.instants import HOUR
from recsys.meta_model import LogisticModel
from recsys.meta_model.training import Examples
from recsys.pipeline.night_checks import (
    ShortHour,
    feature_drift,
    problems,
    rejected_share,
    sales_covered,
    short_hours,
    users_by_sale,
)
from recsys.pipeline.night_values import NightValues
from recsys.shop.catalogue import Catalogue

DEFAULT = NightCheckSettings()
GOOD = NightValues(
    as_of=datetime(2026, 3, 9, tzinfo=UTC),
    version="5",
    rejected_share=0.002,
    sales_covered=0.9,
    users=1000,
    purchases=300,
    pages=200,
    ndcg=0.3,
    calibration=1.1,
    drift={"popularity": 0.2, "own_visits": -0.9},
)


def nights(*changes: dict) -> list[NightValues]:
    """Return nights before GOOD, latest last."""
    return [
        GOOD.model_copy(update={"as_of": GOOD.as_of - timedelta(days=len(changes) - number), **change})
        for number, change in enumerate(changes)
    ]


USUAL = nights({"ndcg": 0.2}, {"ndcg": 0.3}, {"ndcg": 0.4})


def found(*earlier: NightValues, settings: NightCheckSettings = DEFAULT, **changes: object) -> tuple[str, ...]:
    return problems(GOOD.model_copy(update=changes), earlier, settings)


def test_good_night_has_no_problem():
    assert found(*USUAL) == found() == ()


@pytest.mark.parametrize(
    ("at_the_limit", "beyond", "says"),
    [
        (
            {"rejected_share": 0.01},
            {"rejected_share": 0.0101},
            "share of rejected rows == 1.01%, must be at most 5 times 0.20%, the mean of the last 3 nights "
            "(night_checks.max_rejected_times): 'recsys validate' shows them",
        ),
        (
            {"drift": {"price": -1.0, "age": 0.5}},
            {"drift": {"price": -1.01, "age": 0.5}},
            "mean of feature price == -1.01 standard deviations from the training of version 5, must be within 1 "
            "(night_checks.max_feature_drift): look for a change of the source, or promote a version of 'recsys "
            "nightly --train'",
        ),
        (
            {"sales_covered": 0.05},
            {"sales_covered": 0.049},
            "share of sales in any user's ranking == 4.90%, must be at least 5.00% (night_checks.min_sales_covered): "
            "'recsys models rollback' returns to the previous champion",
        ),
        (
            {"users": 500},
            {"users": 499},
            "users ranked == 499, 49.90% of the night before, must be at least 50.00% (night_checks.min_users_share): "
            "look for missing events",
        ),
        (
            {"ndcg": 0.1501},
            {"ndcg": 0.1499},
            "ndcg@10 of yesterday == 0.1499, must be at least 50.00% of 0.3000, the mean of the last 3 nights "
            "(night_checks.min_ndcg_share): 'recsys models drift' shows them",
        ),
    ],
    ids=["rejected", "drift", "sales", "users", "ndcg"],
)
def test_value_at_a_limit_passes_and_one_beyond_it_fails_with_the_next_step(at_the_limit, beyond, says):
    assert found(*USUAL, **at_the_limit) == ()
    assert found(*USUAL, **beyond) == (says,)


def test_all_problems_are_named_at_once():
    broken = {"rejected_share": 0.5, "drift": {"a": 9.0}, "sales_covered": 0.01, "users": 120, "ndcg": 0.01}
    assert len(found(*USUAL, **broken)) == 5


@pytest.mark.parametrize(
    "few",
    [
        {"purchases": 99, "drift": {"price": 5.0}},
        {"users": 99, "sales_covered": 0.0, "few_before": True},
        {"pages": 99, "ndcg": 0.0},
        {"ndcg": None, "pages": 0, "purchases": 0, "drift": {}},
    ],
    ids=["purchases", "users", "pages", "closed day"],
)
def test_values_of_too_few_cases_are_not_checked(few):
    before = nights(*[{"users": 99}] * 3) if few.pop("few_before", False) else USUAL
    assert found(*before, **few) == ()


def test_two_earlier_nights_are_too_few_to_compare_with():
    assert found(*USUAL[1:], ndcg=0.0, rejected_share=0.9) == ()


def test_nights_with_too_few_pages_are_not_part_of_the_mean():
    assert found(*nights({"pages": 99}, {}, {}), ndcg=0.0) == ()


def test_refused_nights_are_not_part_of_the_mean():
    refused = {"ndcg": 0.01, "users": 200, "rejected_share": 0.9, "problems": ("broken",)}
    earlier = nights({}, {}, {}, refused, refused)
    assert len(found(*earlier, ndcg=0.01, users=200, rejected_share=0.9)) == 3


def test_only_the_configured_number_of_nights_is_part_of_the_mean():
    earlier = nights(*[{"ndcg": 0.9}] * 5, {"ndcg": 0.3}, {"ndcg": 0.3}, {"ndcg": 0.3})
    assert found(*earlier, ndcg=0.2, settings=NightCheckSettings(nights=3)) == ()
    assert len(found(*earlier, ndcg=0.2, settings=NightCheckSettings(nights=8))) == 1


def test_a_few_more_rejected_rows_are_not_a_problem():
    none_before = nights(*[{"rejected_share": 0.0}] * 3)
    assert found(*none_before, rejected_share=0.005) == ()
    assert len(found(*none_before, rejected_share=0.0051)) == 1


def test_rejected_rows_are_rows_set_aside_in_all_tables():
    def count(table: str, rows: int, broken: int, action: str = "set aside") -> dict:
        return {"table": table, "rows": rows, "broken": broken, "rule": {"action": action}}

    counts = [
        count("sales", 20, 3),
        count("events", 180, 4),
        count("events", 180, 1),
        count("events", 180, 50, "kept"),
        count("events", 180, 60, "not yet"),
    ]
    assert rejected_share(counts) == (3 + 4 + 1) / (20 + 180)
    assert rejected_share([]) == 0


def test_drift_is_the_difference_of_means_in_standard_deviations_of_training():
    model = LogisticModel(["a", "b", "unused"], [1.0, 10.0, 0.0], [2.0, 5.0, 1.0], [0.5, -1.0, 0.0], 0.0)
    features = np.array([[0.0, 8.0, 100.0], [4.0, 8.0, 100.0], [5.0, 2.0, 100.0]], np.float32)
    examples = Examples(
        ["a", "b", "unused"], features, np.array([True, False, False]), np.ones(3), np.zeros(3, bool), np.zeros(3, int)
    )
    assert feature_drift(model, examples) == {"a": (3 - 1) / 2, "b": (6 - 10) / 5}
    nobody = Examples(
        ["a", "b", "unused"], features[:0], np.zeros(0, bool), np.ones(0), np.zeros(0, bool), np.zeros(0, int)
    )
    assert feature_drift(model, nobody) == {}


def test_drift_matches_features_by_name():
    model = LogisticModel(["b", "a"], [10.0, 1.0], [5.0, 2.0], [1.0, 1.0], 0.0)
    examples = Examples(
        ["a", "b"],
        np.array([[3.0, 6.0]], np.float32),
        np.array([True]),
        np.ones(1),
        np.zeros(1, bool),
        np.zeros(1, int),
    )
    assert feature_drift(model, examples) == {"b": -0.8, "a": 1.0}


def test_users_of_a_sale_are_those_whose_ranking_has_it(spark):
    rows = [("u0", [0, 1], [9, 9]), ("u1", [1, 3], [9, 9]), ("u2", [1, 0], [9, 9])]
    table = spark.createDataFrame(rows, "user_id string, meta_sales array<int>, other_sales array<int>")
    assert users_by_sale(table, "meta", 5).tolist() == [2, 3, 0, 1, 0]


@pytest.mark.parametrize(
    ("users", "covered"),
    [
        ([2, 2, 2, 0, 0, 0, 0, 0, 0, 0], 3 / 6),  # room for 6 of the 10
        ([2, 1, 2, 1], 1.0),
        ([3, 3, 0, 0], 0.5),
        ([0, 0, 0, 0], None),
    ],
)
def test_sales_covered_are_those_in_at_least_one_ranking(users, covered):
    assert sales_covered(np.array(users)) == covered


def test_hours_are_short_whose_open_sales_are_less_than_half_a_page_of_a_users_ranking():
    # Two sales are open in hours 0 and 1, one in hour 2, none in hour 3; four users.
    opens = np.array([0, -HOUR, 0, 2 * HOUR])
    closes = np.array([4 * HOUR, 2 * HOUR, 2 * HOUR, 2 * HOUR + 1])
    catalogue = Catalogue(list("abcd"), opens, closes, np.ones(4), [""] * 4, [""] * 4, [{}] * 4)
    horizon = catalogue.horizon_of(0, 4 * HOUR, np.array([1, 2, 3], np.int32))
    assert short_hours(np.array([4, 0, 2]), 4, horizon, catalogue) == []  # 1 of 2 and 0.5 of 1: just enough
    short = short_hours(np.array([3, 0, 1]), 4, horizon, catalogue)
    assert short == [ShortHour(0, 2, 0.75), ShortHour(HOUR, 2, 0.75), ShortHour(2 * HOUR, 1, 0.25)]


def test_page_of_ten_needs_five_open_sales_in_a_ranking_however_many_are_open():
    opens = np.zeros(40, np.int64)
    catalogue = Catalogue([""] * 40, opens, opens + HOUR, np.ones(40), [""] * 40, [""] * 40, [{}] * 40)
    horizon = catalogue.horizon_of(0, HOUR, np.arange(40, dtype=np.int32))
    assert short_hours(np.repeat([2, 0], [5, 35]), 2, horizon, catalogue) == []
    assert short_hours(np.repeat([2, 1, 0], [4, 1, 35]), 2, horizon, catalogue) == [ShortHour(0, 40, 4.5)]


def test_night_without_events_is_refused_only_if_the_snapshot_in_use_has_users():
    nobody = GOOD.model_copy(update={"events": 0, "users": 0})
    assert problems(nobody, (), DEFAULT, users_in_use=0) == ()  # the first day of a shop
    assert problems(nobody.model_copy(update={"events": 1}), (), DEFAULT, users_in_use=3) == ()  # after a long pause
    (problem,) = problems(nobody, (), DEFAULT, users_in_use=3)
    assert problem.startswith("events known before as_of == 0, but the snapshot in use ranks 3 users by theirs: check ")


def test_first_night_after_a_pause_is_not_compared_with_what_was_usual():
    strange = {"users": 120, "drift": {"popularity": 9.0}}
    weeks_ago = [night.model_copy(update={"as_of": night.as_of - timedelta(days=28)}) for night in USUAL]
    assert found(*weeks_ago, **strange) == ()
    assert len(found(*USUAL, **strange)) == 2
    assert found(*nights({"purchases": 0}, {"purchases": 0}), drift={"popularity": 9.0}) == ()  # nights of the pause
    assert len(found(*nights({"purchases": 0}, {"purchases": 1}), drift={"popularity": 9.0})) == 1
    assert len(found(drift={"popularity": 9.0})) == 1  # the first night of all is no pause
