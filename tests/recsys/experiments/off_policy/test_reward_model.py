from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from recsys.experiments.off_policy.logged_pages import LoggedPages, ranked_pages
from recsys.experiments.off_policy.reward_model import cross_fitted_rewards

N_PAGES, N_POSITIONS = 6000, 2
SALES = np.array(["a", "b", "c", "d"], object)
EFFECTS = np.array([0.0, 0.1, 0.3, 0.6])


def noisy_pages(seed: int = 0) -> LoggedPages:
    """Return pages with rewards of the sale's effect, plus 0.2 at the top, plus noise."""
    rng = np.random.default_rng(seed)
    sale = np.argsort(rng.random((N_PAGES, 4)), axis=1)[:, :N_POSITIONS].ravel()
    page, position = np.repeat(np.arange(N_PAGES), N_POSITIONS), np.tile(np.arange(N_POSITIONS), N_PAGES)
    reward = EFFECTS[sale] + 0.2 * (position == 0) + rng.normal(0, 0.1, len(sale))
    names = np.arange(N_PAGES).astype(str).astype(object)
    return LoggedPages(page, position, SALES[sale], np.full(len(sale), 0.25), reward, names, names)


def test_rewards_are_an_effect_of_the_sale_plus_one_of_the_position() -> None:
    pages = noisy_pages()
    shown = ranked_pages(pages, lambda _: ["d", "b"])
    of_shown, of_candidate = cross_fitted_rewards(pages, shown, np.arange(N_PAGES))
    assert_allclose(of_candidate[:2], [0.6 + 0.2, 0.1], atol=0.02)
    codes = np.searchsorted(SALES.astype(str), pages.sale.astype(str))
    assert_allclose(of_shown, EFFECTS[codes] + 0.2 * (pages.position == 0), atol=0.02)


def test_rewards_of_a_user_are_predicted_without_them() -> None:
    pages = noisy_pages()
    shown, user = ranked_pages(pages, lambda _: ["a"]), np.arange(N_PAGES) // 3
    before, of_candidate = cross_fitted_rewards(pages, shown, user)
    lucky = replace(pages, reward=pages.reward + 1000 * (user[pages.page] == 7))
    after, of_candidate_after = cross_fitted_rewards(lucky, shown, user)
    own, own_shown = user[pages.page] == 7, user[shown.page] == 7
    assert_allclose(after[own], before[own])
    assert_allclose(of_candidate_after[own_shown], of_candidate[own_shown])
    assert not np.allclose(after[user[pages.page] == 8], before[user[pages.page] == 8])


def test_sale_that_was_never_logged_is_predicted_the_mean_of_its_position() -> None:
    pages = noisy_pages()
    shown = ranked_pages(pages, lambda _: ["new", "newer"])
    of_candidate = cross_fitted_rewards(pages, shown, np.arange(N_PAGES))[1]
    top, second = of_candidate[shown.position == 0].mean(), of_candidate[shown.position == 1].mean()
    assert top == pytest.approx(EFFECTS.mean() + 0.2, abs=0.02)
    assert second == pytest.approx(EFFECTS.mean(), abs=0.02)
