import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from recsys.errors import ConfigurationError, InputError
from recsys.experiments.off_policy.logged_pages import (
    CandidatePages,
    best_scored_pages,
    logged_pages,
    ranked_pages,
    shown_probability,
)

EXPOSURES = pd.DataFrame(
    [
        ("r1", "u1", ["a", "b", "c"], [0.5, 0.25, 0.125]),
        ("r2", "u2", ["b", "a"], None),  # a fallback
        ("r3", "u1", ["c"], [0.75]),
        ("r1", "u1", ["a", "b", "c"], [0.5, 0.25, 0.125]),  # delivered twice
        ("r4", "u4", [], []),  # no sale was open
        ("r5", "u5", ["d", "a"], [0.3, 0.6]),
    ],
    columns=["request_id", "user_id", "sale_ids", "propensities"],
)
REWARDS = pd.DataFrame(
    [
        ("r1", "b", 1.0),
        ("r5", "a", 20.0),
        ("r5", "a", 5.0),  # bought twice
        ("r3", "a", 9.0),  # not on this page
        ("r2", "b", 9.0),  # of a page that was not drawn
    ],
    columns=["request_id", "sale_id", "reward"],
)


def test_pages_that_were_drawn_are_read_place_by_place_with_what_they_earned() -> None:
    pages = logged_pages(EXPOSURES, REWARDS)
    assert pages.request_ids.tolist() == ["r1", "r3", "r4", "r5"]
    assert pages.users.tolist() == ["u1", "u1", "u4", "u5"]
    assert_array_equal(pages.page, [0, 0, 0, 1, 3, 3])
    assert_array_equal(pages.place, [0, 1, 2, 0, 0, 1])
    assert pages.sale.tolist() == ["a", "b", "c", "c", "d", "a"]
    assert_allclose(pages.propensity, [0.5, 0.25, 0.125, 0.75, 0.3, 0.6])
    assert_allclose(pages.reward, [0, 1, 0, 0, 0, 25])


def test_pages_of_parquet_lists_are_read_alike() -> None:
    arrays = EXPOSURES.assign(
        sale_ids=[np.array(sales, object) for sales in EXPOSURES["sale_ids"]],
        propensities=[None if each is None else np.array(each) for each in EXPOSURES["propensities"]],
    )
    assert_allclose(logged_pages(arrays, REWARDS).propensity, logged_pages(EXPOSURES, REWARDS).propensity)


def test_pages_without_any_propensity_are_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match=r"missing on all of 1 pages, needed on at least 1: .* 'exploration'$"):
        logged_pages(EXPOSURES.iloc[[1]], REWARDS)


def test_page_with_more_sales_than_propensities_is_refused() -> None:
    odd = pd.DataFrame([("r9", "u9", ["a", "b"], [0.5])], columns=EXPOSURES.columns)
    with pytest.raises(InputError, match="page 'r9' has 1 propensities and 2 sales"):
        logged_pages(pd.concat([EXPOSURES, odd]), REWARDS)


def test_ranking_is_cut_to_the_places_of_the_logged_page() -> None:
    rankings = {"r1": ["d", "a"], "r3": ["b", "c"], "r4": ["a"], "r5": ["a", "d", "b"]}
    shown = ranked_pages(logged_pages(EXPOSURES, REWARDS), rankings.__getitem__)
    assert list(zip(shown.page, shown.place, shown.sale, shown.probability, strict=True)) == [
        *((0, 0, "d", 1), (0, 1, "a", 1)),  # shorter than the page
        (1, 0, "b", 1),
        *((3, 0, "a", 1), (3, 1, "d", 1)),
    ]


def test_best_scores_come_first_and_equal_ones_in_order_of_sales() -> None:
    scores = pd.DataFrame(
        [("r5", "b", 0.5), ("r5", "z", 0.1), ("r1", "c", -1), ("r5", "a", 0.5), ("r1", "b", 2), ("r0", "a", 1)],
        columns=["request_id", "sale_id", "score"],
    )
    shown = best_scored_pages(logged_pages(EXPOSURES, REWARDS), scores)
    assert list(zip(shown.page, shown.sale, strict=True)) == [(0, "b"), (0, "c"), (3, "a"), (3, "b")]


def test_shown_probability_is_that_of_the_same_sale_at_the_same_place_of_the_same_page() -> None:
    shown = CandidatePages(
        np.array([0, 0, 0, 1, 3, 3]),
        np.array([0, 0, 2, 0, 0, 1]),
        np.array(["b", "a", "a", "c", "x", "a"], object),
        np.array([0.7, 0.3, 1, 0.4, 1, 0.9]),
    )
    assert_allclose(shown_probability(logged_pages(EXPOSURES, REWARDS), shown), [0.3, 0, 0, 0.4, 0, 0.9])


@pytest.mark.parametrize(
    ("probabilities", "told"),
    [([0.7, 0.4], "highest sum of probabilities of a place .* == 1.1"), ([-0.1, 0.4], "-0.1")],
)
def test_candidate_without_probabilities_is_refused(probabilities: list[float], told: str) -> None:
    shown = CandidatePages(np.array([0, 0]), np.array([1, 1]), np.array(["a", "b"], object), np.array(probabilities))
    with pytest.raises(ConfigurationError, match=told):
        shown_probability(logged_pages(EXPOSURES, REWARDS), shown)


def test_two_sales_at_one_place_of_a_logged_page_are_refused() -> None:
    pages = logged_pages(EXPOSURES, REWARDS)
    pages.place[1] = 0
    shown = ranked_pages(pages, lambda _: ["a"])
    with pytest.raises(InputError, match="two sales at the same place"):
        shown_probability(pages, shown)


def test_reward_that_is_no_number_is_refused() -> None:
    pages = logged_pages(EXPOSURES, REWARDS)
    pages.reward[2] = np.nan
    with pytest.raises(InputError, match="reward has 1 "):
        shown_probability(pages, ranked_pages(pages, lambda _: ["a"]))
