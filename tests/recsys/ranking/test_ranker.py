from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from recsys.instants import DAY, HOUR
from recsys.meta_model import Basket, Calibration, LogisticModel, MetaModel, probability
from recsys.ranking.ranker import Ranker, gathered, top, youngest_first
from recsys.ranking.scorer import Scorer
from recsys.recommenders.base import Model
from recsys.recommenders.context import LOW_IS_EVIDENCE
from recsys.shop.catalogue import Catalogue
from recsys.shop.histories import Histories
from recsys.testing.closeness import assert_close
from recsys.testing.shops import AS_OF, ShopData, make_shop, purchase, random_shop, sale, visit
from tests.helpers.shops import fitted_ranker, history_of, with_photos

SCORES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1.5, 3e38, -3e38, np.inf, -np.inf])
SESSIONS = st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=5)
BEFORE_SESSION = ("own_visits", "own_purchases", "own_recency", "own_habit", "activity")
"""Features that count only the user's events before as_of."""
SCALES = {"price_gap": 10.0, "taste_metadata": 1.0, "taste_text": 1.0, "taste_images": 1.0}
"""Size of the logarithms whose difference a feature is, which may be much smaller."""
SHOPS = {seed: with_photos(random_shop(seed, n_users=9, n_sales=10, n_events=150)) for seed in range(6)}
RANKERS = {seed: fitted_ranker(shop) for seed, shop in SHOPS.items()}


# The top k of many scores.


@given(
    scores=arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 12)), elements=SCORES),
    k=st.integers(1, 15),
)
def test_top_equals_a_stable_sort_with_ties_by_column(scores, k):
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert_array_equal(top(scores, k), expected)


def test_top_of_many_random_rows_with_many_ties_equals_a_stable_sort():
    rng = np.random.default_rng(0)
    special = np.array([0.0, -0.0, 1e-45, -1e-45, np.inf, -np.inf])
    for scores in (rng.normal(size=(500, 97)), rng.integers(-2, 3, (500, 97)), rng.choice(special, (500, 97))):
        scores = scores.astype(np.float32)
        expected = np.argsort(-scores, axis=1, kind="stable")[:, :30]
        assert_array_equal(top(scores, 30), expected)


def test_top_takes_scores_that_are_not_contiguous_and_leaves_them_alone():
    scores = np.asfortranarray(np.random.default_rng(1).normal(size=(7, 9)).astype(np.float32))
    before = scores.copy()
    assert_array_equal(top(scores, 4), np.argsort(-before, axis=1, kind="stable")[:, :4])
    assert_array_equal(scores, before)


# Contributions to the log-odds.


def test_contribution_is_the_coefficient_times_the_standardised_feature():
    model = LogisticModel(["a", "b", "c"], [1.0, 0.5, -2.0], [2.0, 4.0, 0.5], [3.0, -1.0, 0.0], -2.0)
    of_both = [
        [[1, 5, 3], [2, 0, 7]],
        [[2.5, 2.5, 2.5], [0.5, 0.5, 0.5]],  # differs between users only
        [[1, 2, 3], [1, 2, 3]],  # the same for all users
    ]
    features = np.array(of_both, np.float32)
    best = np.array([[2, 0], [1, 2]])
    added = model.contributions(gathered(features, best), np.zeros((2, 2), bool))
    assert added.dtype == np.float32
    assert_allclose(
        added,
        [
            [[3 * (3 - 1) / 2, 3 * (1 - 1) / 2], [3 * (0 - 1) / 2, 3 * (7 - 1) / 2]],
            [[-(2.5 - 0.5) / 4, -(2.5 - 0.5) / 4], [-(0.5 - 0.5) / 4, -(0.5 - 0.5) / 4]],
            [[0, 0], [0, 0]],
        ],
    )


@pytest.mark.parametrize("seed", SHOPS)
def test_contributions_and_the_intercept_are_the_log_odds(seed):
    ranker = RANKERS[seed]
    for known in (SHOPS[seed].histories(), history_of(SHOPS[seed], 2)):
        scored = ranker.scored(known)
        log_odds = scored.scores("meta")
        best = top(log_odds, 7)
        added = scored.contributions(ranker.meta_model, best)
        assert added.shape == (len(ranker.scorer.names), *best.shape)
        expected = np.take_along_axis(log_odds, best, axis=1)
        users, columns = (each.tolist() for each in scored.repeat)
        repeat = set(zip(users, columns, strict=True))
        is_repeat = np.array([[(user, sale) in repeat for sale in row] for user, row in enumerate(best.tolist())])
        assert is_repeat.any() or len(known) == 1
        intercepts = np.where(is_repeat, ranker.meta_model.repeat.intercept, ranker.meta_model.intercept)
        size = np.abs(added).sum(axis=0) + np.abs(intercepts)
        assert_close(added.sum(axis=0) + intercepts, expected, terms=len(added), dtype=np.float32, scale=size)


@dataclass(frozen=True)
class Fixed(Model):
    """A recommender that is its own model, with given scores, which broadcast to (n_users, n_horizon)."""

    name: str
    scores: NDArray[np.float32]
    scale: float = 0.0
    is_personal: bool = True
    is_relative: bool = True

    @property
    def n_horizon(self) -> int:
        return self.scores.shape[1]

    def write(self, histories: Histories, features: NDArray[np.float32], number: int) -> None:  # noqa: ARG002
        features[:, number] = self.scores

    def arrays(self) -> dict[str, np.ndarray]:
        return {}


SHOP = make_shop([sale("a"), sale("b"), sale("c")], [visit("u", "a", -1)])


def ranker_of(model: MetaModel, *scores: list[list[float]], shop: ShopData = SHOP) -> Ranker:
    fixed = [Fixed(name, np.array(some, np.float32)) for name, some in zip(model.features, scores, strict=True)]
    return Ranker(Scorer(shop.horizon(), fixed, fixed), model)


def test_best_sales_are_those_of_the_highest_log_odds_and_their_scores_are_calibrated():
    curve = Calibration([-10.0, 0.0, 10.0], [-20.0, -1.0, 4.0])  # x2 below 0, x0.5 above, moved by -1
    model = LogisticModel(["a"], [0.0], [1.0], [1.0], 0.0, calibration=curve)
    scored = ranker_of(model, [[-10, 8, 2]]).scored(SHOP.histories())
    best, scores = scored.best("meta", top_k=2)
    assert best.tolist() == [[1, 2]]
    assert_allclose(scores, [[-1 + 0.5 * 8, -1 + 0.5 * 2]])
    best, scores = scored.best("a")
    assert best.tolist() == [[1, 2, 0]]
    assert scores.tolist() == [[8, 2, -10]]  # those of a recommender are not calibrated


def test_scores_of_each_user_are_shifted_so_that_their_probabilities_sum_to_the_basket_of_the_open_sales():
    half_a_day = make_shop([sale("a"), sale("b", -2, 0.5), sale("c")], [visit("u", "a", -1)])
    model = LogisticModel(["a"], [0.0], [1.0], [1.0], -3.0, basket=Basket(np.log(1.25), 0.0))
    best, scores = ranker_of(model, [[0, 0, 0]], shop=half_a_day).scored(half_a_day.histories()).best("meta", top_k=2)
    assert best.tolist() == [[0, 1]]
    assert_allclose(probability(scores), 1.25 / (1 + 0.5 + 1), rtol=2e-3)


def test_reason_is_what_adds_most_among_the_evidence_for_a_sale_and_the_first_wins_a_tie():
    features = ["a", "activity", "b", "hours_left", "same"]
    model = LogisticModel(features, [-1.0, 0.0, 0.0, 0.0, -9.0], [1.0] * 5, [1.0, 2.0, -1.0, -0.5, 1.0], 0.0)
    ranker = ranker_of(
        model,
        [[2, 3, 1]],  # 0, 1, -1 from its mean over the horizon: adds 1, 2, 0
        [[7]],  # adds 14 to each sale, of which it says nothing
        [[5, 5, -10]],  # adds -5, -5, 10: but the last has less of it than the others
        [[8, 4, 0]],  # adds -2, 0, 2: the last closes soon
        [[0.1, 0.1, 0.1]],  # adds 9 to each sale, and is rounded
    )
    scored = ranker.scored(SHOP.histories())
    reasons = scored.reasons("meta", np.array([[2, 1, 0]]))[0]
    assert [ranker.scorer.reasons[reason] for reason in reasons] == ["hours_left", "a", "open"]


@given(seed=st.sampled_from(sorted(SHOPS)), session=SESSIONS, row=st.none() | st.integers(0, 8))
def test_no_reason_is_the_same_for_all_sales_or_untrue_of_its_sale(seed, session, row):
    shop, ranker = SHOPS[seed], RANKERS[seed]
    known = Histories.of_unknown_user(AS_OF, len(shop.catalogue)) if row is None else history_of(shop, row)
    if session:
        sales, purchases = zip(*session, strict=True)
        known = known.with_session(np.array(sales, np.int32), np.array(purchases))
    scored, scorer = ranker.scored(known), ranker.scorer
    best = np.arange(len(scorer.horizon))[None, :]
    reasons = [scorer.reasons[reason].partition("/")[0] for reason in scored.reasons("meta", best)[0]]
    assert "activity" not in reasons
    seen = set(known.sales[known.before_session()].tolist())
    for position, reason in zip(scorer.horizon.sales.tolist(), reasons, strict=True):
        if reason != "open":
            values = scorer.score(reason, known)[0]
            value = values[scorer.horizon.columns(np.array([position]))[0]]
            assert value < values.max() if reason in LOW_IS_EVIDENCE else value > values.min()
        if reason.startswith("own_"):
            assert position in seen


def test_reason_of_a_recommenders_policy_is_the_recommender_where_it_gives_a_score():
    ranker = ranker_of(LogisticModel(["a", "b"], [0.0] * 2, [1.0] * 2, [1.0] * 2, 0.0), [[2, 3, 1]], [[0, 0, 9]])
    scored = ranker.scored(SHOP.histories())
    assert ranker.scorer.names == ["a", "b"]
    assert scored.scores("a").tolist() == [[2, 3, 1]]
    for number, policy in enumerate(ranker.scorer.names):
        assert scored.reasons(policy, np.array([[2, 0]])).tolist() == [[number, number if policy == "a" else 2]]
    assert ranker.scorer.reasons[2] == "open"


def test_features_are_computed_once_for_scores_reasons_and_contributions():
    class Once(Fixed):
        def write(self, histories: Histories, features: NDArray[np.float32], number: int) -> None:
            asked.append(histories)
            super().write(histories, features, number)

    asked: list[Histories] = []
    model = LogisticModel(["a"], [0.0], [1.0], [1.0], 0.0)
    scorer = Scorer(SHOP.horizon(), [each := Once("a", np.array([[2, 3, 1]], np.float32))], [each])
    scored = Ranker(scorer, model).scored(SHOP.histories())
    best = top(scored.scores("meta"), 2)
    scored.reasons("meta", best)
    scored.contributions(model, best)
    assert len(asked) == 1


def test_shared_ranking_holds_all_sales_of_the_horizon_best_first():
    shop = random_shop(3, n_users=31, n_sales=45, n_events=1500)
    ranker = fitted_ranker(shop)
    scorer = ranker.scorer
    ranking = ranker.shared_ranking("popularity", len(shop.catalogue))
    rates = scorer.models[scorer.names.index("popularity")].rates.tolist()
    order = sorted(range(len(rates)), key=lambda sale: (-rates[sale], sale))
    assert ranking.sales.tolist() == order
    assert ranking.scores.tolist() == [rates[sale] for sale in order]
    assert set(ranking.reasons.tolist()) == {scorer.names.index("popularity")}
    assert not ranking.covers.any()


def test_without_photos_or_without_the_recommender_over_them_covers_are_shown():
    shop, ranker = SHOPS[0], RANKERS[0]
    kept = [number for number, name in enumerate(ranker.scorer.names) if name != "content_images"]
    parts = {part: [getattr(ranker.scorer, part)[number] for number in kept] for part in ("recommenders", "models")}
    best = np.tile(np.arange(len(ranker.scorer.horizon)), (len(shop.block), 1))
    assert ranker.scored(shop.histories()).covers(best).any()
    for other in (replace(ranker, covers=None), replace(ranker, scorer=replace(ranker.scorer, **parts))):
        assert not other.scored(shop.histories()).covers(best).any()


# A running session.


def session_of(events: list[tuple[int, bool]]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    return np.array([sale for sale, _ in events], np.int32), np.array([bought for _, bought in events], bool)


def recomputed(shop: ShopData, ranker: Ranker, name: str, events: list[tuple[int, bool, float]]) -> list[float]:
    """Return the scores of one user by loops over the events: sale, whether it was bought, and age in days."""
    model, horizon = ranker.scorer.models[ranker.scorer.names.index(name)], ranker.scorer.horizon
    if name == "collaborative":
        similarities = model.similarities.toarray().astype(np.float64)
        weights = [(sale, (3 if bought else 1) * 2 ** (-age / 14)) for sale, bought, age in events]
        return [sum(weight * similarities[sale, target] for sale, weight in weights) for target in range(len(horizon))]
    if name == "price_gap":
        prices = shop.catalogue.prices
        priced = [(np.log(prices[sale]), 2 ** (-age / 30)) for sale, _, age in events if not np.isnan(prices[sale])]
        usual = sum(log * weight for log, weight in priced) / sum(weight for _, weight in priced) if priced else np.nan
        return [float(np.nan_to_num(abs(np.log(prices[sale]) - usual))) for sale in horizon.sales]
    profiles = model.profiles.toarray().astype(np.float64)
    taste = np.zeros(profiles.shape[1])
    for seen, bought, age in events:
        taste += (3 if bought else 1) * 2 ** (-age / 30) * profiles[seen]
    return [taste @ profiles[target] / (np.linalg.norm(taste) or 1) for target in horizon.sales]


@pytest.mark.parametrize("name", ["collaborative", "content_metadata", "content_text", "content_images", "price_gap"])
@given(seed=st.sampled_from(list(SHOPS)), user=st.integers(0, 8), session=SESSIONS)
def test_session_counts_as_if_it_were_at_as_of(name, seed, user, session):
    shop, ranker, known = SHOPS[seed], RANKERS[seed], history_of(SHOPS[seed], user)
    columns = (known.sales, known.purchases, (AS_OF - known.occurred_at) / DAY)
    before = zip(*(values.tolist() for values in columns), strict=True)
    events = [*before, *((sale, bought, 0.0) for sale, bought in session)]
    scores = ranker.scored(known.with_session(*session_of(session))).scores(name)
    expected = recomputed(shop, ranker, name, events)
    assert_close(scores[0], expected, terms=len(shop.event_rows), scale=SCALES.get(name))


@given(seed=st.sampled_from(list(SHOPS)), user=st.integers(0, 8), session=SESSIONS)
def test_features_that_count_own_events_leave_the_session_out(seed, user, session):
    known = history_of(SHOPS[seed], user)
    with_it = RANKERS[seed].scored(known.with_session(*session_of(session)))
    for name in (*BEFORE_SESSION, "popularity", "hours_open", "hours_left"):
        assert_array_equal(with_it.scores(name), RANKERS[seed].scored(known).scores(name), err_msg=name)


@pytest.mark.parametrize("seed", SHOPS)
def test_empty_session_changes_nothing(seed):
    for user in range(9):
        known = history_of(SHOPS[seed], user)
        without, with_it = RANKERS[seed].scored(known), RANKERS[seed].scored(known.with_session(*session_of([])))
        for policy in ["meta", *RANKERS[seed].scorer.names]:
            assert_array_equal(with_it.scores(policy), without.scores(policy), err_msg=policy)
            best = top(without.scores(policy), 4)
            assert_array_equal(with_it.reasons(policy, best), without.reasons(policy, best), err_msg=policy)
        assert_array_equal(with_it.covers(best), without.covers(best))


@given(seed=st.sampled_from(list(SHOPS)), session=SESSIONS)
def test_anonymous_user_with_a_session_scores_as_a_user_with_only_those_events(seed, session):
    shop, ranker = SHOPS[seed], RANKERS[seed]
    nobody = Histories.of_unknown_user(AS_OF, len(shop.catalogue))
    anonymous = ranker.scored(nobody.with_session(*session_of(session)))
    last_microsecond, ids = -1 / DAY, shop.catalogue.sale_ids
    events = [(purchase if bought else visit)("anybody", ids[sale], last_microsecond) for sale, bought in session]
    known = ranker.scored(history_of(make_shop(shop.sale_rows, events, users=["anybody"]), 0))
    assert len(known.histories.sales) == len(session)
    best = top(anonymous.scores("meta"), 4)
    for name in ranker.scorer.names:
        expected = ranker.scored(nobody) if name in BEFORE_SESSION else known
        terms, scale = 1 + len(session), SCALES.get(name)
        assert_close(anonymous.scores(name), expected.scores(name), terms=terms, scale=scale, about=name)
    assert_array_equal(anonymous.covers(best), known.covers(best))


def test_session_changes_ranking_reasons_and_photos():
    changed = np.zeros(3, int)
    for seed, shop in SHOPS.items():
        for user in range(9):
            known = history_of(shop, user)
            session = known.with_session(RANKERS[seed].scorer.horizon.sales[-2:], np.array([False, True]))
            without, with_it = RANKERS[seed].scored(known), RANKERS[seed].scored(session)
            best, now_best = top(without.scores("meta"), 4), top(with_it.scores("meta"), 4)
            changed[0] += (best != now_best).any()
            changed[1] += (with_it.reasons("meta", best) != without.reasons("meta", best)).any()
            changed[2] += (with_it.covers(best) != without.covers(best)).any()
    assert (changed > 5).all()


def test_youngest_first_ranks_by_opening_and_ties_by_sale():
    opens = np.array([5, 1, 5, -3, 9]) * HOUR
    catalogue = Catalogue(list("abcde"), opens, opens + DAY, np.ones(5), [""] * 5, [""] * 5, [{}] * 5)
    horizon = catalogue.horizon_of(2 * HOUR, DAY, np.array([0, 2, 3, 4], np.int32))
    ranking = youngest_first(horizon, catalogue, 7)
    assert (ranking.sales.tolist(), ranking.scores.tolist()) == ([3, 0, 1, 2], [7, 3, 3, -5])
    assert ranking.reasons.tolist() == [7] * 4


def test_ranker_without_a_model_ranks_by_recommenders():
    fixed = [Fixed("a", np.array([[1, 3, 2]], np.float32))]
    ranker = Ranker(Scorer(SHOP.horizon(), fixed, fixed), None)
    assert ranker.scored(SHOP.histories()).best("a")[0].tolist() == [[1, 2, 0]]
    assert ranker.meta_model_of("meta") is None
