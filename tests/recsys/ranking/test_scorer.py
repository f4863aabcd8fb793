import io
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from recsys.ranking.scorer import Scorer, pack, unpack
from recsys.recommenders import OVER_PHOTOS, Model, RecommenderSettings, recommenders
from recsys.shop.histories import Histories
from recsys.testing.shops import AS_OF, HISTORY, make_shop, random_shop, sale, visit
from tests.helpers.shops import with_photos

SHOP = make_shop([sale("a"), sale("b"), sale("c")], [visit("u", "a", -1), visit("v", "c", -1)])


@dataclass(frozen=True)
class Fixed(Model):
    """A recommender that is its own model, with given scores, which broadcast to (n_users, n_horizon)."""

    scores: NDArray[np.float32]
    scale: float = 0.0
    name: str = "fixed"
    is_personal: bool = True
    is_relative: bool = True

    @property
    def n_horizon(self) -> int:
        return 3 if self.scores.shape[1] == 3 else 1

    def write(self, histories: Histories, features: NDArray[np.float32], number: int) -> None:  # noqa: ARG002
        features[:, number] = self.scores

    def arrays(self) -> dict[str, np.ndarray]:
        return {}


def features(*fixed: Fixed) -> NDArray[np.float32]:
    return Scorer(SHOP.horizon(), list(fixed), list(fixed)).features(SHOP.histories())


def test_feature_is_centred_on_its_mean_over_the_horizon() -> None:
    scores = np.array([[1, 2, 6], [-1, 0, 1]], np.float32)
    assert_allclose(features(Fixed(scores))[0], [[1 - 3, 2 - 3, 6 - 3], [-1, 0, 1]])


def test_scale_turns_a_score_into_a_logarithm_before_it_is_centred() -> None:
    scores = np.array([[0, 1, 9]], np.float32)
    logs = np.log([1 + 10 * 0, 1 + 10 * 1, 1 + 10 * 9])
    assert_allclose(features(Fixed(scores, scale=10))[0], [logs - logs.mean()] * 2, rtol=1e-5)


def test_feature_that_is_the_same_for_all_sales_is_not_centred() -> None:
    column = np.array([[2], [5]], np.float32)
    assert_array_equal(features(Fixed(column, is_relative=False))[0], [[2, 2, 2], [5, 5, 5]])


def test_feature_of_a_single_sale_is_0_as_it_is_its_own_mean() -> None:
    only = make_shop([sale("a")], [visit("u", "a", -1), visit("v", "a", -1)])
    fixed = [Fixed(np.array([[7]], np.float32)), Fixed(np.array([[7]], np.float32), is_relative=False)]
    scorer = Scorer(only.horizon(), fixed, fixed)
    both, alone = only.histories(), Histories.of_unknown_user(AS_OF, 1)
    assert scorer.features(both).tolist() == [[[0], [0]], [[7], [7]]]
    assert scorer.features(alone).tolist() == [[[0]], [[7]]]


def test_features_are_float32_and_leave_the_scores_as_they_are() -> None:
    scores = [np.array([[1, 2, 6], [4, 0, 1]], np.float32), np.array([[1, 2, 6]], np.float32)]
    before = [array.copy() for array in scores]
    for scale in (0.0, 10.0):
        found = features(*(Fixed(array, scale) for array in scores))
        assert [feature.dtype for feature in found] == [np.float32, np.float32]
    for array, copy in zip(scores, before, strict=True):
        assert_array_equal(array, copy)


def test_feature_that_is_the_same_for_all_users_is_computed_once_and_asks_for_no_history() -> None:
    asked: list[Histories] = []

    class Counted(Fixed):
        def write(self, histories: Histories, features: NDArray[np.float32], number: int) -> None:
            asked.append(histories)
            super().write(histories, features, number)

    row = np.array([[1, 2, 6]], np.float32)
    fixed = [Counted(row, name="popularity", is_personal=False), Fixed(row + 1, name="own"), Counted(row, name="mine")]
    scorer = Scorer(SHOP.horizon(), fixed, fixed)
    for _ in range(2):
        for feature in scorer.features(SHOP.histories()):
            assert_allclose(feature, [[1 - 3, 2 - 3, 6 - 3]] * 2)
    assert [len(histories.sales) for histories in asked] == [2, 0, 2]  # popularity once, without events; mine twice


def test_score_of_one_recommender_is_that_of_all_users_and_sales() -> None:
    row, column = np.array([[1, 2, 3]], np.float32), np.array([[5, 5, 5], [7, 7, 7]], np.float32)
    fixed = [Fixed(row, name="popularity"), Fixed(column, name="activity")]
    scorer = Scorer(SHOP.horizon(), fixed, fixed)
    assert scorer.names == ["popularity", "activity"]
    assert_array_equal(scorer.score("popularity", SHOP.histories()), [[1, 2, 3], [1, 2, 3]])
    assert_array_equal(scorer.score("activity", SHOP.histories()), [[5, 5, 5], [7, 7, 7]])


def test_loaded_scorer_gives_the_features_of_the_fitted_one() -> None:
    shop = with_photos(random_shop(3))
    horizon, histories = shop.horizon(), shop.histories()
    everything = recommenders(RecommenderSettings(), shop.catalogue)
    models = [each.fit(each.count(histories, horizon), horizon) for each in everything]
    fitted = Scorer(horizon, everything, models)
    packed = {name: pack(model.arrays()) for name, model in zip(fitted.names, models, strict=True) if model.arrays()}
    assert 0 < len(packed) < len(models)  # the context features have no arrays
    loaded = Scorer.load(everything, packed, horizon)
    for name, one, other in zip(fitted.names, loaded.features(histories), fitted.features(histories), strict=True):
        assert one.dtype == np.float32
        assert_array_equal(one, other, err_msg=name)
        assert_array_equal(loaded.score(name, histories), fitted.score(name, histories), err_msg=name)


def test_features_of_a_user_are_the_same_alone_and_in_a_block() -> None:
    shop = with_photos(random_shop(3))
    horizon, histories = shop.horizon(), shop.histories()
    everything = recommenders(RecommenderSettings(), shop.catalogue)
    scorer = Scorer(horizon, everything, [each.fit(each.count(histories, horizon), horizon) for each in everything])
    together = scorer.features(histories)
    for user in range(len(histories)):
        alone = scorer.features(shop.block.take(np.array([user])).as_of(horizon.as_of, HISTORY))
        for name, one, all_users in zip(scorer.names, alone, together, strict=True):
            assert_array_equal(one[0], all_users[user], err_msg=name)


@dataclass(frozen=True)
class Traced(Fixed):
    """A recommender whose scores are traced to given details of users and sales."""

    details: tuple[str, ...] = ()
    traces: tuple[tuple[int, ...], ...] = ()

    def trace(self, _: Histories, users: NDArray[np.int64], sales: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array(self.traces, np.int64)[users, sales]


NOTHING = np.zeros((1, 1), np.float32)
IMAGES = Traced(NOTHING, name="images", details=("pool", "ski"), traces=((0, 1, -1), (1, 1, 0)))
SUBJECTS = Traced(NOTHING, name="subjects", details=("food", "art", "sea"), traces=((2, 0, 1), (-1, 2, 2)))
WORDLESS = Traced(NOTHING, name="text", traces=((0, 0, 0), (0, 0, 0)))


def scorer_of(*recommenders: Fixed) -> Scorer:
    return Scorer(SHOP.horizon(), list(recommenders), list(recommenders))


def detailed(scorer: Scorer, reasons: list[list[int]], sales: list[list[int]]) -> list[list[str]]:
    """Return the names of reasons, given as features, after their replacement by details."""
    numbers = np.array(reasons, np.int16)
    scorer.with_details(numbers, SHOP.histories(), np.array(sales))
    assert numbers.dtype == np.int16
    return [[scorer.reasons[number] for number in row] for row in numbers]


def test_reasons_are_the_features_and_then_the_details_of_each() -> None:
    scorer = scorer_of(IMAGES, Fixed(NOTHING), WORDLESS, SUBJECTS)
    details = ["images/pool", "images/ski", "subjects/food", "subjects/art", "subjects/sea"]
    assert scorer.reasons == ["images", "fixed", "text", "subjects", *details, "open"]
    assert scorer_of(Fixed(NOTHING), WORDLESS).reasons == ["fixed", "text", "open"]


def test_feature_is_replaced_by_the_detail_of_user_and_sale() -> None:
    scorer = scorer_of(Fixed(NOTHING), IMAGES, WORDLESS, SUBJECTS)
    sales = [[2, 1, 0], [0, 1, 2]]
    assert detailed(scorer, [[1, 1, 1], [1, 0, 3]], sales) == [
        ["images", "images/ski", "images/pool"],  # the first is traced to no detail
        ["images/ski", "fixed", "subjects/sea"],
    ]
    assert detailed(scorer, [[3, 3, 2], [3, 2, 2]], sales) == [
        ["subjects/art", "subjects/food", "text"],
        ["subjects", "text", "text"],
    ]


def test_features_without_details_stay_as_they_are() -> None:
    assert detailed(scorer_of(Fixed(NOTHING), WORDLESS), [[0], [1]], [[2], [0]]) == [["fixed"], ["text"]]


def test_reasons_may_be_more_than_a_byte_holds() -> None:
    many = tuple(f"detail {number}" for number in range(300))
    traces = tuple(tuple(290 + user + 2 * sale for sale in range(3)) for user in range(2))
    scorer = scorer_of(Traced(NOTHING, name="images", details=many, traces=traces), IMAGES)
    assert detailed(scorer, [[0, 1], [0, 1]], [[1, 0], [2, 2]]) == [
        ["images/detail 292", "images/pool"],
        ["images/detail 295", "images/pool"],
    ]


def test_reasons_of_a_shop_with_photos_name_its_themes() -> None:
    shop = with_photos(random_shop(3))
    everything = recommenders(RecommenderSettings(), shop.catalogue)
    models = [each.fit(each.count(shop.histories(), shop.horizon()), shop.horizon()) for each in everything]
    scorer = Scorer(shop.horizon(), everything, models)
    details = [f"{name}/theme {number}" for name in OVER_PHOTOS for number in range(5)]
    assert scorer.reasons == [*scorer.names, *details, "open"]


def test_arrays_come_back_as_they_were_packed() -> None:
    arrays = {"data": np.arange(3, dtype=np.float32), "offsets": np.array([[1, 2]]), "nothing": np.empty(0, np.int32)}
    unpacked = unpack(pack(arrays))
    assert unpacked.keys() == arrays.keys()
    for name, array in arrays.items():
        assert_array_equal(unpacked[name], array)
        assert unpacked[name].dtype == array.dtype
    assert unpack(pack({})) == {}


def test_array_of_objects_is_refused() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, evil=np.array([{"code": 1}], object))
    with pytest.raises(ValueError, match="allow_pickle"):
        unpack(buffer.getvalue())
