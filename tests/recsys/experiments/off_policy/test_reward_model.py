from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from recsys.experiments.off_policy.logged_pages import LoggedPages, ranked_pages
from recsys.experiments.off_policy.reward_model import cross_fitted_rewards

N_PAGES, N_PLACES = 6000, 2
SALES = np.array(["a", "b", "c", "d"], object)
EFFECTS = np.array([0.0, 0.1, 0.3, 0.6])


def noisy_pages(seed: int = 0) -> LoggedPages:
    """A sale earns its effect, and 0.2 more at the top."""
    rng = np.random.default_rng(seed)
    sale = np.argsort(rng.random((N_PAGES, 4)), axis=1)[:, :N_PLACES].ravel()
    page, place = np.repeat(np.arange(N_PAGES), N_PLACES), np.tile(np.arange(N_PLACES), N_PAGES)
    reward = EFFECTS[sale] + 0.2 * (place == 0) + rng.normal(0, 0.1, len(sale))
    names = np.arange(N_PAGES).astype(str).astype(object)
    return LoggedPages(page, place, SALES[sale], np.full(len(sale), 0.25), reward, names, names)


def test_rewards_are_an_effect_of_the_sale_and_one_of_the_place() -> None:
    pages = noisy_pages()
    shown = ranked_pages(pages, lambda _: ["d", "b"])
    of_shown, of_candidate = cross_fitted_rewards(pages, shown, np.arange(N_PAGES))
    assert_allclose(of_candidate[:2], [0.6 + 0.2, 0.1], atol=0.02)
    codes = np.searchsorted(SALES.astype(str), pages.sale.astype(str))
    assert_allclose(of_shown, EFFECTS[codes] + 0.2 * (pages.place == 0), atol=0.02)


def test_rewards_of_a_user_are_predicted_without_them() -> None:
    pages = noisy_pages()
    shown, user = ranked_pages(pages, lambda _: ["a"]), np.arange(N_PAGES) // 3
    before, of_candidate = cross_fitted_rewards(pages, shown, user)
    lucky = replace(pages, reward=pages.reward + 1000 * (user[pages.page] == 7))
    after, of_candidate_after = cross_fitted_rewards(lucky, shown, user)
    his, his_shown = user[pages.page] == 7, user[shown.page] == 7
    assert_allclose(after[his], before[his])
    assert_allclose(of_candidate_after[his_shown], of_candidate[his_shown])
    assert not np.allclose(after[user[pages.page] == 8], before[user[pages.page] == 8])


def test_sale_that_was_never_logged_earns_what_its_place_does() -> None:
    pages = noisy_pages()
    shown = ranked_pages(pages, lambda _: ["new", "newer"])
    of_candidate = cross_fitted_rewards(pages, shown, np.arange(N_PAGES))[1]
    top, second = of_candidate[shown.place == 0].mean(), of_candidate[shown.place == 1].mean()
    assert top == pytest.approx(EFFECTS.mean() + 0.2, abs=0.02)
    assert second == pytest.approx(EFFECTS.mean(), abs=0.02)
