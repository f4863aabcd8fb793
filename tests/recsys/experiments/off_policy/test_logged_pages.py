import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from recsys.errors import ConfigurationError, InputError
from recsys.experiments.off_policy.logged_pages import (
    CandidatePages,
    logged_pages,
    ranked_pages,
    shown_probability,
)

PAGES = pa.schema(
    [
        ("request_id", pa.string()),
        ("user_id", pa.string()),
        ("sale_ids", pa.list_(pa.string())),
        ("propensities", pa.list_(pa.float64())),
    ]
)


def table(rows: list[tuple], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema)


EXPOSURES = table(
    [
        ("r1", "u1", ["a", "b", "c"], [0.5, 0.25, 0.125]),
        ("r2", "u2", ["b", "a"], None),  # a fallback
        ("r3", "u1", ["c"], [0.75]),
        ("r1", "u1", ["a", "b", "c"], [0.5, 0.25, 0.125]),  # delivered twice
        ("r4", "u4", [], []),  # no sale was open
        ("r5", "u5", ["d", "a"], [0.3, 0.6]),
    ],
    PAGES,
)
REWARDS = table(
    [
        ("r1", "b", 1.0),
        ("r5", "a", 20.0),
        ("r5", "a", 5.0),  # bought twice
        ("r3", "a", 9.0),  # not on this page
        ("r2", "b", 9.0),  # of a page that was not drawn
        (None, "b", 9.0),  # of no page
        ("r1", "z", 9.0),  # on no page
    ],
    pa.schema([("request_id", pa.string()), ("sale_id", pa.string()), ("reward", pa.float64())]),
)


def test_drawn_pages_are_read_with_the_reward_at_each_position() -> None:
    pages = logged_pages(EXPOSURES, REWARDS)
    assert pages.request_ids.tolist() == ["r1", "r3", "r4", "r5"]
    assert pages.users.tolist() == ["u1", "u1", "u4", "u5"]
    assert_array_equal(pages.page, [0, 0, 0, 1, 3, 3])
    assert_array_equal(pages.position, [0, 1, 2, 0, 0, 1])
    assert pages.sale.tolist() == ["a", "b", "c", "c", "d", "a"]
    assert_allclose(pages.propensity, [0.5, 0.25, 0.125, 0.75, 0.3, 0.6])
    assert_allclose(pages.reward, [0, 1, 0, 0, 0, 25])


def test_table_in_several_chunks_is_read_like_one_in_a_single_chunk() -> None:
    pieces = pa.concat_tables([EXPOSURES.slice(0, 2), EXPOSURES.slice(2, 3), EXPOSURES.slice(5)])
    whole, found = logged_pages(EXPOSURES, REWARDS), logged_pages(pieces, pa.concat_tables([REWARDS, REWARDS]))
    assert_array_equal(found.sale, whole.sale)
    assert_array_equal(found.page, whole.page)
    assert_allclose(found.propensity, whole.propensity)
    assert_allclose(found.reward, 2 * whole.reward)


def test_pages_without_any_sale_are_read() -> None:
    pages = logged_pages(EXPOSURES.slice(4, 1), REWARDS)
    assert pages.request_ids.tolist() == ["r4"]
    assert [len(column) for column in (pages.page, pages.position, pages.sale, pages.propensity, pages.reward)] == [
        0
    ] * 5


def test_pages_without_propensities_are_an_error_that_names_the_next_step() -> None:
    with pytest.raises(InputError, match=r"missing on all of 1 page, needed on at least 1: .* 'exploration'$"):
        logged_pages(EXPOSURES.slice(1, 1), REWARDS)


def test_page_with_more_sales_than_propensities_is_refused() -> None:
    odd = table([("r9", "u9", ["a", "b"], [0.5])], PAGES)
    with pytest.raises(InputError, match="page 'r9': number of propensities == 1, must be the number of sales, 2:"):
        logged_pages(pa.concat_tables([EXPOSURES, odd]), REWARDS)


def test_ranking_is_cut_to_the_length_of_the_logged_page() -> None:
    rankings = {"r1": ["d", "a"], "r3": ["b", "c"], "r4": ["a"], "r5": ["a", "d", "b"]}
    shown = ranked_pages(logged_pages(EXPOSURES, REWARDS), rankings.__getitem__)
    assert list(zip(shown.page, shown.position, shown.sale, shown.probability, strict=True)) == [
        *((0, 0, "d", 1), (0, 1, "a", 1)),  # a ranking shorter than the page
        (1, 0, "b", 1),
        *((3, 0, "a", 1), (3, 1, "d", 1)),
    ]


def test_shown_probability_is_that_of_the_same_sale_at_the_same_position_of_the_same_page() -> None:
    shown = CandidatePages(
        np.array([0, 0, 0, 1, 3, 3]),
        np.array([0, 0, 2, 0, 0, 1]),
        np.array(["b", "a", "a", "c", "x", "a"], object),
        np.array([0.7, 0.3, 1, 0.4, 1, 0.9]),
    )
    assert_allclose(shown_probability(logged_pages(EXPOSURES, REWARDS), shown), [0.3, 0, 0, 0.4, 0, 0.9])


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [([0.7, 0.4], "highest sum of probabilities of a position .* == 1.1"), ([-0.1, 0.4], "-0.1")],
)
def test_candidate_with_invalid_probabilities_is_refused(probabilities: list[float], message: str) -> None:
    shown = CandidatePages(np.array([0, 0]), np.array([1, 1]), np.array(["a", "b"], object), np.array(probabilities))
    with pytest.raises(ConfigurationError, match=message):
        shown_probability(logged_pages(EXPOSURES, REWARDS), shown)


def test_two_sales_at_one_position_of_a_logged_page_are_refused() -> None:
    pages = logged_pages(EXPOSURES, REWARDS)
    pages.position[1] = 0
    shown = ranked_pages(pages, lambda _: ["a"])
    with pytest.raises(InputError, match="two sales at the same position"):
        shown_probability(pages, shown)


def test_reward_that_is_not_finite_is_refused() -> None:
    pages = logged_pages(EXPOSURES, REWARDS)
    pages.reward[2] = np.nan
    with pytest.raises(InputError, match="reward is not finite in 1 row, must be finite in all"):
        shown_probability(pages, ranked_pages(pages, lambda _: ["a"]))
