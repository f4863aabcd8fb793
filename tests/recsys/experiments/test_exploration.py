from collections import Counter
from itertools import permutations
from math import exp, prod
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from recsys.experiments.exploration import draw_page, page_probability
from recsys.experiments.settings import ExplorationSettings

SCORES = [0.4, -1.1, 0.9, 0.0]
EXPLORATION = ExplorationSettings(temperature=0.8, floor=0.2)
PAGES = list(permutations(range(len(SCORES)), 3))

scores_of_sales = st.lists(st.floats(-20, 20), min_size=1, max_size=12)
explorations = st.builds(ExplorationSettings, temperature=st.floats(0.01, 100), floor=st.floats(0, 0.5))


def given_before(page: tuple[int, ...], sale: int) -> float:
    """Return the conditional probability of a sale after a page, from those of pages; 0 if it is on the page."""
    if sale in page:
        return 0.0
    return page_probability(SCORES, [*page, sale], EXPLORATION) / page_probability(SCORES, page, EXPLORATION)


def test_first_position_is_a_softmax_mixed_with_a_uniform_draw() -> None:
    settings = ExplorationSettings(temperature=2, floor=0.1)
    expected = 0.9 * exp(3 / 2) / (exp(3 / 2) + exp(1 / 2) + exp(-1 / 2)) + 0.1 / 3
    assert page_probability([1, 3, -1], [1], settings) == pytest.approx(expected)


def test_second_position_is_drawn_from_the_remaining_sales() -> None:
    settings = ExplorationSettings(temperature=1, floor=0)
    expected = exp(3) / (exp(3) + exp(1) + exp(-1)) * exp(-1) / (exp(1) + exp(-1))
    assert page_probability([1, 3, -1], [1, 2], settings) == pytest.approx(expected)


def test_probabilities_of_all_pages_sum_to_1() -> None:
    assert sum(page_probability(SCORES, page, EXPLORATION) for page in PAGES) == pytest.approx(1)


def test_pages_are_drawn_as_often_as_their_probability_says() -> None:
    random, n_draws = Random(3), 20_000
    drawn = Counter(tuple(draw_page(SCORES, 3, EXPLORATION, random).order) for _ in range(n_draws))
    expected = [n_draws * page_probability(SCORES, page, EXPLORATION) for page in PAGES]
    assert min(expected) > 50
    assert chisquare([drawn[page] for page in PAGES], expected).pvalue > 0.01


@pytest.mark.parametrize("seed", range(30))
def test_probabilities_of_a_drawn_page_agree_with_those_of_whole_pages(seed: int) -> None:
    page = draw_page(SCORES, 4, EXPLORATION, Random(seed))
    order = tuple(page.order)
    for position, sale in enumerate(order):
        passed_over = prod(1 - given_before(order[:before], sale) for before in range(position))
        assert page.given_before[position] == pytest.approx(given_before(order[:position], sale))
        assert page.propensities[position] == pytest.approx(given_before(order[:position], sale) * passed_over)


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("sale", range(4))
def test_inverse_propensities_of_a_sale_at_a_position_have_mean_1_over_pages(sale: int, position: int) -> None:
    counted = naive = 0.0
    for page in PAGES:
        if page[position] == sale:
            probability, chance = page_probability(SCORES, page, EXPLORATION), given_before(page[:position], sale)
            passed_over = prod(1 - given_before(page[:before], sale) for before in range(position))
            counted += probability / (chance * passed_over)
            naive += probability / chance
    assert counted == pytest.approx(1)
    assert naive < 0.95 or position == 0  # a weight of 1 / conditional probability would be biased


@given(scores=scores_of_sales, settings=explorations, n=st.integers(0, 15), seed=st.integers(0, 1000))
def test_page_is_full_and_its_probabilities_are_in_0_to_1(
    scores: list[float], settings: ExplorationSettings, n: int, seed: int
) -> None:
    page = draw_page(scores, n, settings, Random(seed))
    assert len(page.order) == len(set(page.order)) == min(n, len(scores))
    assert all(0 < low <= high <= 1 + 1e-12 for low, high in zip(page.propensities, page.given_before, strict=True))
    assert page_probability(scores, page.order, settings) == pytest.approx(prod(page.given_before), rel=1e-6)


def test_low_temperature_preserves_the_order_of_scores_of_any_size() -> None:
    scores = [5000.0, 1.0, 3.0, -900.0, 2.0]  # exp(4999 / 0.01) overflows
    page = draw_page(scores, 5, ExplorationSettings(temperature=0.01), Random(1))
    assert page.order == [0, 2, 4, 1, 3]
    assert page.propensities == pytest.approx([1] * 5)


def test_sales_far_below_the_best_are_drawn_by_their_scores_after_it() -> None:
    page = draw_page([735, 0, 0.5], 3, ExplorationSettings(temperature=1), Random(1))  # exp(-735) has 4 digits
    higher = exp(0.5) / (exp(0.5) + exp(0))
    assert page.given_before == pytest.approx([1, higher if page.order[1] == 2 else 1 - higher, 1], rel=1e-12)


def test_floor_draws_sales_that_the_scores_alone_never_would() -> None:
    settings, random = ExplorationSettings(temperature=0.01, floor=0.3), Random(5)
    drawn = Counter(draw_page([9, 0, 0], 1, settings, random).order[0] for _ in range(6000))
    assert drawn[0] / 6000 == pytest.approx(0.7 + 0.1, abs=0.02)
    assert drawn[1] / 6000 == pytest.approx(0.1, abs=0.02)


def test_same_seed_draws_the_same_page() -> None:
    scores = [Random(7).random() for _ in range(30)]
    assert draw_page(scores, 10, EXPLORATION, Random("r1")) == draw_page(scores, 10, EXPLORATION, Random("r1"))
    assert draw_page(scores, 10, EXPLORATION, Random("r1")) != draw_page(scores, 10, EXPLORATION, Random("r2"))


def test_no_sales_are_an_empty_page() -> None:
    assert draw_page([], 10, EXPLORATION, Random(0)) == ([], [], [])
