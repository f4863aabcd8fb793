import numpy as np
import pytest
import torch

from recsys.testing.closeness import (
    assert_close,
    assert_no_near_ties,
    assert_same_order,
    assert_same_tags,
    rounding,
    terms_of,
)

EPS = {np.float32: 2.0**-23, np.float64: 2.0**-52}


@pytest.mark.parametrize("dtype", EPS)
def test_rounding_grows_with_the_root_of_the_terms_and_the_largest_value_of_the_row(dtype: type) -> None:
    values = np.array([[1, -4], [0, 0.5]], dtype)
    assert (rounding(values, 100) == 8 * 10 * EPS[dtype] * np.array([[4], [0.5]])).all()
    assert rounding(dtype(-4), 1) == 8 * EPS[dtype] * 4
    assert rounding(values, 4, scale=3).item() == 8 * 2 * EPS[dtype] * 3
    assert rounding(np.zeros((0, 2)), 9).shape == (0, 1)


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("n", [3, 1_000, 30_000])
def test_sums_in_other_orders_are_close(dtype: type, n: int) -> None:
    rng = np.random.default_rng(0)
    terms = rng.normal(1, 1, (20, n)).astype(dtype)
    one_by_one = np.add.accumulate(terms, axis=1)[:, -1]
    backwards = np.add.accumulate(terms[:, ::-1], axis=1)[:, -1]
    assert_close(one_by_one[:, None], terms.sum(axis=1, dtype=np.float64)[:, None], terms=n)
    assert_close(one_by_one, backwards, terms=n)


def test_difference_of_more_than_rounding_is_an_error_that_names_its_position() -> None:
    expected = np.array([[1.0, 2.0], [3.0, 40.0]], np.float32)
    off = expected + np.array([[0, 0], [1e-3, 0]], np.float32)
    with pytest.raises(AssertionError, match=r"scores: 1 of 4 differ .* at \(1, 0\): .*3\.001.* of .*3\.0"):
        assert_close(off, expected, terms=10, about="scores:")
    assert_close(off, expected, terms=10, scale=1000)
    with pytest.raises(AssertionError, match=r"1 of 1 differ"):  # with an expected 0 the tolerance is 0
        assert_close([1e-30], [0.0], terms=10)


@pytest.mark.parametrize("actual", [[1.0, np.nan], [1.0, np.inf], [1.0], [[1.0, 2.0]]])
def test_nan_infinity_and_another_shape_are_not_close(actual: list) -> None:
    with pytest.raises(AssertionError, match=r"differ by more than rounding|shapes"):
        assert_close(actual, [1.0, 2.0], terms=10**9)


def test_tolerance_is_that_of_the_coarser_type() -> None:
    third = np.float32(1 / 3)
    assert_close(third, 1 / 3, terms=1)
    assert_close([float(third)], [1 / 3], terms=1, dtype=np.float32)
    for actual, expected in ((float(third), 1 / 3), (np.float64(third), np.float64(1 / 3))):
        with pytest.raises(AssertionError):
            assert_close(actual, expected, terms=1)


def test_order_may_differ_only_by_swaps_of_near_ties() -> None:
    scores = [3.0, 1.0, 1.001, 2.0]
    assert_same_order(scores, [0, 3, 1, 2], [0, 3, 2, 1], within=0.002)
    assert_same_order(scores, [0, 3, 1], [0, 3, 2], within=0.002)  # swapped at the end of the top 3
    with pytest.raises(AssertionError, match=r"position 2: 1, must be 2: their scores are 0\.001 apart"):
        assert_same_order(scores, [0, 3, 1, 2], [0, 3, 2, 1], within=0.0005)
    with pytest.raises(AssertionError, match="position 0: 3, must be 0"):
        assert_same_order(scores, [3, 0, 2, 1], [0, 3, 2, 1], within=0.002)
    for found in ([0, 0, 2, 1], [0, 3, 2]):
        with pytest.raises(AssertionError):
            assert_same_order(scores, found, [0, 3, 2, 1], within=9)


def test_near_ties_are_found_at_any_position() -> None:
    assert_no_near_ties([3.0, 1.0, 2.0], within=0.9)
    assert_no_near_ties([3.0], within=9)
    for scores in ([1.0, 3.0, 1.1], [2.0, 2.0], [[1.0, 5.0], [3.0, 5.1]]):
        with pytest.raises(AssertionError, match=r"two scores are .* apart, must be more than 0\.2"):
            assert_no_near_ties(scores, within=0.2)


def test_terms_of_a_network_are_the_products_of_all_layers() -> None:
    convolutions = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 2))
    assert terms_of(convolutions) == 3 * 5 * 5 + 8


def test_tags_are_the_same_within_the_rounding_of_their_logits() -> None:
    embedding = np.array([30.0, 2.0], np.float32)
    probabilities = np.array([0.9, 1e-4], np.float32)
    moved = 2 * 30 * 8 * EPS[np.float32]  # change of the log of a probability, for 1 term
    assert_same_tags(probabilities * (1 + 0.9 * moved), embedding, (probabilities, embedding), terms=1)
    for other in (probabilities * [1, 1 + 1.2 * moved], probabilities[::-1]):
        with pytest.raises(AssertionError, match="probabilities"):
            assert_same_tags(other, embedding, (probabilities, embedding), terms=1)
    with pytest.raises(AssertionError, match="embedding"):
        assert_same_tags(probabilities, embedding + 1e-3, (probabilities, embedding), terms=1)
