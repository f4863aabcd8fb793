from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy.stats import t as student_t

from recsys.errors import ConfigurationError, InputError
from recsys.experiments.off_policy.estimators import DOUBLY_ROBUST, IPS, SNIPS, evaluate
from recsys.experiments.off_policy.logged_pages import (
    CandidatePages,
    LoggedPages,
    PagePositions,
    logged_pages,
    shown_probability,
)
from tests.helpers.paths import SHARED_DATA

OPEN_BANDIT = SHARED_DATA / "open_bandit/random_all.parquet"
ESTIMATORS = (IPS, SNIPS, DOUBLY_ROBUST)


def log(rows: list[tuple[int, int, str, float, float]], users: list[str]) -> LoggedPages:
    """Return logged pages from rows of (page, position, sale, propensity, reward)."""
    page, position, sale, propensity, reward = map(list, zip(*rows, strict=True))
    requests = np.array([f"r{number}" for number in range(len(users))], object)
    return LoggedPages(
        np.array(page),
        np.array(position),
        np.array(sale, object),
        np.array(propensity),
        np.array(reward, float),
        requests,
        np.array(users, object),
    )


def candidate(rows: list[tuple[int, int, str, float]]) -> CandidatePages:
    page, position, sale, probability = map(list, zip(*rows, strict=True))
    return CandidatePages(np.array(page), np.array(position), np.array(sale, object), np.array(probability, float))


SMALL_LOG = log(
    [
        (0, 0, "a", 0.5, 1),
        (0, 1, "b", 0.4, 0),
        (1, 0, "b", 0.25, 0),
        (1, 1, "a", 0.2, 2),
        (2, 0, "a", 0.8, 0),  # a page with one position
    ],
    ["u1", "u2", "u3"],
)
SMALL_CANDIDATE = candidate(
    [(0, 0, "a", 0.75), (0, 0, "c", 0.25), (0, 1, "b", 1), (1, 0, "c", 1), (1, 1, "a", 1), (2, 0, "a", 1)]
)
WEIGHTS = [0.75 / 0.5, 1 / 0.4, 0, 1 / 0.2, 1 / 0.8]


def always(reward: float) -> Callable[[PagePositions], NDArray[np.float64]]:
    return lambda rows: np.full(len(rows.page), reward)


def by_sale(rewards: dict[str, float]) -> Callable[[PagePositions], NDArray[np.float64]]:
    return lambda rows: np.array([rewards[sale] for sale in rows.sale])


def test_values_of_a_small_log_by_hand() -> None:
    values = evaluate(SMALL_LOG, SMALL_CANDIDATE, always(0.1)).values
    assert values[IPS].value == pytest.approx((1.5 * 1 + 5 * 2) / 3)
    top, second = 1.5 * 1 / (1.5 + 0 + 1.25), 5 * 2 / (2.5 + 5)
    assert values[SNIPS].value == pytest.approx(top * 3 / 3 + second * 2 / 3)  # only two of three pages have a second
    residuals = 1.5 * 0.9 + 2.5 * -0.1 + 5 * 1.9 + 1.25 * -0.1
    assert values[DOUBLY_ROBUST].value == pytest.approx((5 * 0.1 + residuals) / 3)


def test_diagnostics_of_a_small_log_by_hand() -> None:
    found = evaluate(SMALL_LOG, SMALL_CANDIDATE, always(0.1), clip=2)
    cut = [1.5, 2, 0, 2, 1.25]
    assert found.values[IPS].value == pytest.approx((1.5 * 1 + 2 * 2) / 3)
    assert (found.pages, found.users, found.rewarded) == (3, 3, 2)
    assert (found.max_weight, found.clipped) == (5, 2 / 5)
    assert found.effective_places == pytest.approx(sum(cut) ** 2 / sum(weight**2 for weight in cut))
    assert found.support.value == pytest.approx(sum(cut) / 5)
    assert found.logged.value == pytest.approx((1 + 0 + 0 + 2 + 0) / 3)


def test_interval_with_one_page_per_user_is_students_t_with_effective_degrees_of_freedom() -> None:
    earned = np.array([1.5, 10, 0])
    squares = (earned - earned.mean()) ** 2
    freedom = squares.sum() ** 2 / (squares**2).sum() - 1
    half_width = student_t.ppf(0.975, max(freedom, 1)) * earned.std(ddof=1) / np.sqrt(3)
    value = evaluate(SMALL_LOG, SMALL_CANDIDATE, always(0)).values[IPS]
    assert value[1:] == pytest.approx((earned.mean() - half_width, earned.mean() + half_width))


def test_copies_of_the_same_users_pages_do_not_narrow_the_interval() -> None:
    pages, shown, rng = *random_pages(60, seed=8), np.random.default_rng(0)
    predicted = rng.random(99)
    once = evaluate(pages, shown, lambda rows: predicted[rows.position])
    thrice = evaluate(repeated(pages, 3), repeated(shown, 3), lambda rows: predicted[rows.position])
    for name in ESTIMATORS:
        assert_allclose(thrice.values[name], once.values[name])
        assert_allclose(thrice.differences[name], once.differences[name])


def repeated(rows: PagePositions, times: int) -> PagePositions:
    """Return each page `times` times, each copy with the same user."""
    n_pages = rows.page.max() + 1
    columns = {name: np.tile(values, times) for name, values in vars(rows).items()}
    page = np.concatenate([rows.page + n_pages * copy for copy in range(times)])
    return type(rows)(**columns | {"page": page})


@pytest.mark.parametrize("seed", range(5))
def test_values_agree_with_loops_over_positions(seed: int) -> None:
    pages, shown = random_pages(40, seed)
    expected = {sale: number / 7 for number, sale in enumerate("abcdef")}
    chance = {row[:3]: row[3] for row in zip(shown.page, shown.position, shown.sale, shown.probability, strict=True)}
    rows = list(zip(pages.page, pages.position, pages.sale, pages.propensity, pages.reward, strict=True))
    weighted = [
        (position, sale, chance.get((page, position, sale), 0) / p, reward) for page, position, sale, p, reward in rows
    ]
    direct = sum(probability * expected[sale] for (_, _, sale), probability in chance.items())
    corrections = sum(weight * (reward - expected[sale]) for _, sale, weight, reward in weighted)
    of_positions = []
    for position in range(3):
        weights, rewards = np.array([(weight, reward) for at, _, weight, reward in weighted if at == position]).T
        mass = sum(probability for (_, at, _), probability in chance.items() if at == position)
        of_positions.append(mass * (weights @ rewards) / weights.sum())
    values = evaluate(pages, shown, by_sale(expected)).values
    assert values[IPS].value == pytest.approx(sum(weight * reward for _, _, weight, reward in weighted) / 40)
    assert values[SNIPS].value == pytest.approx(sum(of_positions) / 40)
    assert values[DOUBLY_ROBUST].value == pytest.approx((direct + corrections) / 40)


def random_pages(n_pages: int, seed: int) -> tuple[LoggedPages, CandidatePages]:
    rng = np.random.default_rng(seed)
    rows, shown = [], []
    for page in range(n_pages):
        for position, sale in enumerate(rng.permutation(list("abcdef"))[:3]):
            rows.append((page, position, str(sale), rng.uniform(0.1, 1), float(rng.integers(0, 3))))
            shown += [
                (page, position, other, chance)
                for other, chance in zip("abcdef", rng.dirichlet(np.ones(6)), strict=True)
            ]
    return log(rows, [f"u{user}" for user in rng.integers(0, n_pages // 2, n_pages)]), candidate(shown)


@pytest.mark.parametrize("seed", range(3))
def test_standard_error_of_snips_agrees_with_the_influence_of_each_page(seed: int) -> None:
    pages, everywhere = random_pages(40, seed)
    is_filled = (everywhere.position < 2) | (everywhere.page % 3 == 0)  # the third position is often empty
    shown = CandidatePages(*(column[is_filled] for column in vars(everywhere).values()))
    weight = shown_probability(pages, shown) / pages.propensity

    def snips(times: NDArray[np.float64]) -> float:
        """Return the estimate with each page counted `times` times."""
        rates = [
            np.average(pages.reward[at], weights=(weight * times[pages.page])[at])
            for at in (pages.position == position for position in range(3))
        ]
        return float((shown.probability * times[shown.page]) @ np.array(rates)[shown.position] / times.sum())

    once, step = np.ones(40), 1e-6
    moves = np.array([(snips(once + step * page) - snips(once - step * page)) / (2 * step) for page in np.eye(40)])
    of_users = np.bincount(pd.factorize(pages.users)[0], weights=moves)
    freedom = (of_users**2).sum() ** 2 / (of_users**4).sum() - 1
    error = np.sqrt((of_users**2).sum() * len(of_users) / (len(of_users) - 1))
    value = evaluate(pages, shown).values[SNIPS]
    assert value.value == pytest.approx(snips(once))
    assert value.high - value.value == pytest.approx(student_t.ppf(0.975, freedom) * error, rel=1e-5)


def test_value_of_the_logging_policy_is_the_mean_logged_reward() -> None:
    pages, _ = random_pages(50, seed=4)
    itself = CandidatePages(pages.page, pages.position, pages.sale, pages.propensity)
    found = evaluate(pages, itself)
    assert found.values[IPS] == pytest.approx(found.logged)
    assert found.differences[IPS] == pytest.approx((0, 0, 0))
    assert found.effective_places == pytest.approx(150)


class Shop:
    """A shop with 3 kinds of user, 12 sales and pages of 4; rewards depend on user, sale and position only."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.scores = rng.normal(0, 1.4, (3, 12))
        appeal = 0.1 * np.exp(0.4 * self.scores + rng.normal(0, 0.5, (3, 12)))
        self.rates = np.minimum(appeal[:, :, None] * np.array([1, 0.7, 0.5, 0.4]), 1)
        self.candidate = np.argsort(-(0.5 * self.scores + rng.normal(0, 0.8, (3, 12))), axis=1)[:, :4]
        self.sales = np.array([f"s{number}" for number in range(12)], object)

    @property
    def truth(self) -> float:
        return float(np.mean([self.rates[kind, self.candidate[kind], range(4)].sum() for kind in range(3)]))

    def pages(self, n_pages: int, rng: np.random.Generator) -> tuple[LoggedPages, CandidatePages]:
        user = rng.integers(0, 2 * n_pages, n_pages)
        kind = user % 3
        order, propensity = draws(self.scores[kind], rng)
        reward = (rng.random((n_pages, 4)) < self.rates[kind[:, None], order, range(4)]).astype(float)
        page, position = np.repeat(np.arange(n_pages), 4), np.tile(np.arange(4), n_pages)
        names = np.arange(n_pages).astype(str).astype(object), user.astype(str).astype(object)
        pages = LoggedPages(page, position, self.sales[order.ravel()], propensity.ravel(), reward.ravel(), *names)
        best = self.sales[self.candidate[kind].ravel()]
        return pages, CandidatePages(page, position, best, np.ones(len(page)))

    def rewards(self, pages: LoggedPages) -> Callable[[PagePositions], NDArray[np.float64]]:
        """Return a predictor of the true expected rewards."""
        kind, codes = pages.users.astype(int) % 3, {sale: number for number, sale in enumerate(self.sales)}
        return lambda rows: self.rates[kind[rows.page], [codes[sale] for sale in rows.sale], rows.position]


def draws(scores: NDArray[np.float64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw one page per row like `draw_page` with temperature 1 and floor 0.1; return sales and propensities."""
    left, passed_over = np.ones(scores.shape, bool), np.ones(scores.shape)
    order, propensities = [], []
    for _ in range(4):
        weights = np.exp(scores) * left
        chances = 0.9 * weights / weights.sum(axis=1, keepdims=True) + 0.1 * left / left.sum(axis=1, keepdims=True)
        taken = (chances.cumsum(axis=1) > rng.random((len(scores), 1)) * 0.999999).argmax(axis=1)[:, None]
        order.append(taken)
        propensities.append(np.take_along_axis(chances * passed_over, taken, axis=1))
        passed_over *= 1 - chances
        np.put_along_axis(left, taken, False, axis=1)
    return np.hstack(order), np.hstack(propensities)


def test_coverage_of_the_intervals_is_93_to_97_percent() -> None:
    shop, rng = Shop(), np.random.default_rng(1)
    covered = []
    for _ in range(1000):
        pages, shown = shop.pages(500, rng)
        values = evaluate(pages, shown, always(0.05)).values
        covered.append([values[name].low <= shop.truth <= values[name].high for name in ESTIMATORS])
    coverage = np.mean(covered, axis=0)
    assert np.all((coverage >= 0.93) & (coverage <= 0.97)), coverage


def test_estimates_on_drawn_pages_are_unbiased() -> None:
    shop = Shop()
    found = evaluate(*shop.pages(60_000, np.random.default_rng(2)))
    for name in ESTIMATORS:
        assert found.values[name].value == pytest.approx(shop.truth, rel=0.03)
    assert found.support.value == pytest.approx(1, abs=0.01)
    assert found.logged.value > 1.2 * shop.truth  # the mean logged reward is no estimate of it
    assert found.differences[IPS].value == pytest.approx(found.values[IPS].value - found.logged.value)


def test_doubly_robust_is_unbiased_if_propensities_or_predicted_rewards_are_right() -> None:
    shop = Shop()
    pages, shown = shop.pages(60_000, np.random.default_rng(3))
    wrong = replace(pages, propensity=np.minimum(pages.propensity**0.7, 1))
    right_rewards, wrong_rewards = shop.rewards(pages), always(0.3)
    near = pytest.approx(shop.truth, rel=0.03)
    assert evaluate(pages, shown, wrong_rewards).values[DOUBLY_ROBUST].value == near
    assert evaluate(wrong, shown, right_rewards).values[DOUBLY_ROBUST].value == near
    assert evaluate(wrong, shown, wrong_rewards).values[DOUBLY_ROBUST].value != near
    assert evaluate(wrong, shown, right_rewards).values[IPS].value != near


def test_good_predictions_narrow_the_interval() -> None:
    shop = Shop()
    pages, shown = shop.pages(2000, np.random.default_rng(4))
    expected = shop.rewards(pages)
    noiseless = replace(pages, reward=expected(pages))  # the noise of purchases would hide the effect of predictions
    perfect, fitted = evaluate(noiseless, shown, expected).values, evaluate(noiseless, shown).values
    assert 4 * width(perfect[DOUBLY_ROBUST]) < width(fitted[DOUBLY_ROBUST]) < 0.9 * width(fitted[IPS])


def width(estimate: tuple[float, float, float]) -> float:
    return estimate[2] - estimate[1]


def test_wrong_propensities_show_in_the_support() -> None:
    pages, shown = Shop().pages(3000, np.random.default_rng(6))
    assert evaluate(replace(pages, propensity=pages.propensity / 2), shown).support.low > 1


@pytest.mark.parametrize(("propensity", "shown"), [(0.0, "0.0"), (1.5, "1.5"), (-0.1, "-0.1"), (float("nan"), "nan")])
def test_propensity_beyond_its_range_is_refused(propensity: float, shown: str) -> None:
    propensities = SMALL_LOG.propensity.copy()
    propensities[3] = propensity
    with pytest.raises(InputError, match=rf"propensity == {shown} of sale 'a' at position 1 of page 'r1'.*in \(0, 1\]"):
        evaluate(replace(SMALL_LOG, propensity=propensities), SMALL_CANDIDATE)


def test_log_without_overlap_is_refused() -> None:
    with pytest.raises(InputError, match="shown by none of 3 pages at position 0, 1, needs"):
        evaluate(SMALL_LOG, candidate([(0, 0, "x", 1), (1, 1, "y", 1)]))
    with pytest.raises(InputError, match="shown by none of 3 pages at position 1, needs"):
        evaluate(SMALL_LOG, candidate([(0, 0, "a", 1), (0, 1, "c", 1)]))
    with pytest.raises(InputError, match="needs 1 page or more"):
        evaluate(SMALL_LOG, CandidatePages(*(values[:0] for values in vars(SMALL_CANDIDATE).values())))


def test_log_without_a_reward_of_the_candidates_sales_is_refused() -> None:
    only_the_unmatched = np.array([0, 0, 5.0, 0, 0])
    with pytest.raises(InputError, match="rewarded positions == 0 of 4 at which"):
        evaluate(replace(SMALL_LOG, reward=only_the_unmatched), SMALL_CANDIDATE)


def test_log_of_one_user_is_refused() -> None:
    with pytest.raises(InputError, match="3 pages of 1 user, needs 2 users or more"):
        evaluate(replace(SMALL_LOG, users=np.array(["u1"] * 3, object)), SMALL_CANDIDATE)


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan")])
def test_clip_that_leaves_nothing_is_refused(clip: float) -> None:
    with pytest.raises(ConfigurationError, match=f"clip == {clip}, must be above 0"):
        evaluate(SMALL_LOG, SMALL_CANDIDATE, clip=clip)


def fashion_log() -> pd.DataFrame:
    if not OPEN_BANDIT.exists():
        pytest.skip(f"{OPEN_BANDIT} is absent: the shared data sets are not part of the project")
    columns = ["item_id", "position", "click", "propensity_score"]
    return pd.read_parquet(OPEN_BANDIT, columns=columns).astype({"item_id": str})


def as_pages(impressions: pd.DataFrame) -> LoggedPages:
    """Return each impression as a page of its own, with a user of its own."""
    names = impressions.index.astype(str).to_numpy(object)
    return LoggedPages(
        np.arange(len(impressions)),
        impressions["position"].to_numpy(),
        impressions["item_id"].to_numpy(object),
        impressions["propensity_score"].to_numpy(),
        impressions["click"].to_numpy(float),
        names,
        names,
    )


def even_choice(pages: LoggedPages, choices: dict[int, list[str]]) -> CandidatePages:
    """Return the pages of a policy that draws uniformly from each position's choices."""
    lists = [choices[position] for position in pages.position.tolist()]
    sizes = np.array([len(each) for each in lists])
    page, position = np.repeat(pages.page, sizes), np.repeat(pages.position, sizes)
    return CandidatePages(
        page, position, np.concatenate([np.array(each, object) for each in lists]), np.repeat(1 / sizes, sizes)
    )


@pytest.mark.real_data
def test_value_of_the_policy_that_logged_fashion_is_its_click_rate() -> None:
    impressions = fashion_log()
    pages = as_pages(impressions)
    everything = sorted(impressions["item_id"].unique())
    found = evaluate(pages, even_choice(pages, dict.fromkeys((1, 2, 3), everything)))
    assert len(everything) == 80
    assert found.values[IPS].value == pytest.approx(38 / 10_000)
    assert found.values[SNIPS].value == pytest.approx(38 / 10_000)
    assert found.values[DOUBLY_ROBUST].value == pytest.approx(38 / 10_000, rel=0.02)
    assert found.support == pytest.approx((1, 1, 1))


@pytest.mark.real_data
def test_value_of_the_most_clicked_fashion_of_one_half_is_plausible_on_the_other() -> None:
    impressions = fashion_log()
    is_later = np.arange(len(impressions)) >= len(impressions) // 2
    clicks = impressions[~is_later].groupby(["position", "item_id"], as_index=False)["click"].mean()
    best = clicks.sort_values(["click", "item_id"], ascending=[False, True]).groupby("position").head(20)
    pages = as_pages(impressions[is_later])
    found = evaluate(pages, even_choice(pages, best.groupby("position")["item_id"].agg(list).to_dict()))
    for name in ESTIMATORS:
        low, high = found.values[name][1:]
        assert low < 38 / 10_000 < high < 0.03
    assert found.support.low < 1 < found.support.high
    assert found.max_weight == pytest.approx(80 / 20)


@pytest.mark.real_data
def test_fashion_without_propensities_is_refused() -> None:
    impressions = fashion_log().head(100)
    ids = impressions.index.astype(str).tolist()
    lists = {"sale_ids": [[str(item)] for item in impressions["item_id"]], "propensities": pa.nulls(len(ids))}
    exposures = pa.table({"request_id": ids, "user_id": ids, **lists})
    with pytest.raises(InputError, match=r"propensities is missing on all of 100 pages.*'exploration'"):
        logged_pages(exposures, pa.table({"request_id": [], "sale_id": [], "reward": []}))
