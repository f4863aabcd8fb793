from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shops import AS_OF, make_shop, random_shop, sale, visit, with_photos, write_photos

from recsys.images.covers import CHOICES
from recsys.instants import DAY
from recsys.meta_model import MetaModel
from recsys.pipeline.fitting import fitted_recommenders
from recsys.pipeline.histories import user_histories
from recsys.pipeline.rankings import ranked_lists, rankings, reasons, shared_ranking, top
from recsys.pipeline.settings import RankingSettings
from recsys.tables import FITTED_RECOMMENDERS

POLICIES = ("meta", "collaborative", "own_visits")
SCORES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1.5, 3e38, -3e38, np.inf, -np.inf])


def ranked(frame) -> dict[str, dict]:
    rows = [row.asDict() for row in frame.collect()]
    found = {row["user_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def found(fitted, meta_model) -> dict[str, dict]:
    settings = RankingSettings(kept=10, policies=POLICIES)
    return ranked(rankings(fitted.histories, fitted.shop, AS_OF, meta_model, settings))


def scores_of(fitted, meta_model, user: str, as_of: int) -> dict[str, np.ndarray]:
    scorer, known = fitted.scorer(as_of), fitted.known(user, as_of)
    scores = {name: scorer.score(name, known)[0] for name in scorer.names}
    return {**scores, "meta": meta_model.log_odds(scorer.features(known), (1, len(scorer.horizon)))[0]}


def test_sales_are_those_of_each_user_ranked_in_plain_python_ties_by_sale(fitted, meta_model, found):
    ties = 0
    for user, row in found.items():
        for policy in POLICIES:
            scores = scores_of(fitted, meta_model, user, AS_OF)[policy].tolist()
            order = sorted(range(len(scores)), key=lambda sale: (-scores[sale], sale))[:10]
            assert row[f"{policy}_sales"] == order
            best = [scores[sale] for sale in order]
            expected = [1 / (1 + np.exp(-score)) for score in best] if policy == "meta" else best
            assert row[f"{policy}_scores"] == pytest.approx(expected, rel=1e-4)
            ties += len(set(best)) < len(best)
    assert ties > 10


def test_reason_is_the_feature_that_adds_most_to_the_log_odds(fitted, meta_model, found):
    for user, row in found.items():
        features = list(fitted.features(user, AS_OF).values())
        for sale_number, reason in zip(row["meta_sales"], row["meta_reasons"], strict=True):
            added = [
                coefficient * (feature[sale_number] - mean) / scale
                for feature, coefficient, mean, scale in zip(
                    features, meta_model.coefficients, meta_model.means, meta_model.scales, strict=True
                )
            ]
            assert added[reason] == pytest.approx(max(added), rel=1e-4)
        names = meta_model.features
        assert set(row["own_visits_reasons"]) == {names.index("own_visits")}
        assert set(row["collaborative_reasons"]) == {names.index("collaborative")}


def test_reason_counts_from_the_mean_of_the_feature_and_the_first_wins_a_tie():
    model = MetaModel(["a", "b", "c"], [1.0, 0.0, 0.0], [1.0, 2.0, 1.0], [1.0, 2.0, -1.0], 0.0)
    features = [
        np.array([[2.0, 3.0, 1.0]], np.float32),  # adds 1, 2, 0
        np.array([[1.0]], np.float32),  # adds 1 everywhere
        np.array([[5.0, 5.0, -3.0]], np.float32),  # adds -5, -5, 3
    ]
    best = np.array([[2, 0, 1]])
    assert reasons(features, model, best).tolist() == [[2, 0, 0]]


def test_users_without_a_known_event_in_the_history_window_are_absent(fitted, found):
    start = AS_OF - fitted.shop.history.days * DAY
    expected = {
        row["user_id"]
        for row in fitted.data.event_rows
        if start <= row["occurred_at"] < AS_OF and row["recorded_at"] < AS_OF
    }
    assert set(found) == expected
    assert len(expected) < len(fitted.users)


def test_partitions_change_nothing(fitted, meta_model, found):
    settings = RankingSettings(kept=10, policies=POLICIES)
    again = ranked(rankings(fitted.histories.repartition(1), fitted.shop, AS_OF, meta_model, settings))
    assert again == found


def test_all_sales_are_kept_where_the_horizon_has_fewer_than_asked_for(fitted, meta_model):
    row = next(
        iter(ranked(rankings(fitted.histories, fitted.shop, AS_OF, meta_model, RankingSettings(kept=255))).values())
    )
    n_sales = len(fitted.shop.horizon(AS_OF))
    assert 10 < n_sales < 255
    assert sorted(row["meta_sales"]) == list(range(n_sales))


def test_shop_in_which_no_user_is_known_has_no_ranking(fitted_shop, meta_model):
    data = make_shop([sale("a", -3, 3), sale("b", -5, 3)], [visit("u", "a", -1, recorded=0), visit("v", "a", -50)])
    shop = fitted_shop(data)
    assert ranked(rankings(shop.histories, shop.shop, AS_OF, meta_model, RankingSettings())) == {}


def test_shared_ranking_holds_all_sales_of_the_horizon_best_first(fitted):
    scorer = fitted.scorer(AS_OF)
    ranking = shared_ranking(scorer, "popularity", len(fitted.data.catalogue))
    rates = scorer.models[scorer.names.index("popularity")].arrays()["rates"].tolist()
    order = sorted(range(len(rates)), key=lambda sale: (-rates[sale], sale))
    assert ranking.sales.tolist() == order
    assert ranking.scores.tolist() == [rates[sale] for sale in order]
    assert set(ranking.reasons.tolist()) == {scorer.names.index("popularity")}


@given(
    scores=arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 12)), elements=SCORES),
    k=st.integers(1, 15),
)
def test_top_equals_a_stable_sort_with_ties_by_column(scores, k):
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(top(scores, k), expected)


def test_top_of_many_random_rows_with_many_ties_equals_a_stable_sort():
    rng = np.random.default_rng(0)
    special = np.array([0.0, -0.0, 1e-45, -1e-45, np.inf, -np.inf])
    for scores in (rng.normal(size=(500, 97)), rng.integers(-2, 3, (500, 97)), rng.choice(special, (500, 97))):
        scores = scores.astype(np.float32)
        expected = np.argsort(-scores, axis=1, kind="stable")[:, :30]
        np.testing.assert_array_equal(top(scores, 30), expected)


def test_top_takes_scores_that_are_not_contiguous_and_leaves_them_alone():
    scores = np.asfortranarray(np.random.default_rng(1).normal(size=(7, 9)).astype(np.float32))
    before = scores.copy()
    np.testing.assert_array_equal(top(scores, 4), np.argsort(-before, axis=1, kind="stable")[:, :4])
    np.testing.assert_array_equal(scores, before)


# A shop with photos.

N_THEMES = 130  # more than a byte less the features, so that numbers of reasons need two


@pytest.fixture(scope="module")
def illustrated(fitted, spark, tmp_path_factory):
    """A shop with photos of many themes, fitted as of AS_OF."""
    data = with_photos(random_shop(3, n_users=31, n_sales=45, n_events=1500), N_THEMES)
    folder = tmp_path_factory.mktemp("illustrated")
    (folder / "sales").mkdir()
    pq.write_table(data.sales, folder / "sales/part.parquet")
    write_photos(folder, data.catalogue)
    shop = replace(fitted.shop, folder=str(folder))
    histories = user_histories(spark.createDataFrame(data.events), data.catalogue).repartition(3).cache()
    FITTED_RECOMMENDERS.write(fitted_recommenders(histories, shop, [AS_OF]), folder)
    return replace(fitted, data=data, shop=shop, histories=histories, instants=[AS_OF])


@pytest.fixture(scope="module")
def model_with_images(illustrated) -> MetaModel:
    """A model that looks at photos more than at anything else."""
    names = [recommender.name for recommender in illustrated.shop.recommenders]
    weights = [3.0 if name == "content_images" else 0.2 for name in names]
    return MetaModel(names, [0.0] * len(names), [1.0] * len(names), weights, -3.0)


@pytest.fixture(scope="module")
def found_with_images(illustrated, model_with_images) -> dict[str, dict]:
    settings = RankingSettings(kept=40, policies=("meta", "content_images"))
    return ranked(rankings(illustrated.histories, illustrated.shop, AS_OF, model_with_images, settings))


def test_reason_that_is_the_photos_names_the_theme_that_adds_most(illustrated, model_with_images, found_with_images):
    scorer = illustrated.scorer(AS_OF)
    images = scorer.models[scorer.names.index("content_images")]
    profiles = images.profiles.toarray()[scorer.horizon.sales]
    plain, themes = 0, set()
    for user, row in found_with_images.items():
        taste = images.user_profiles(illustrated.known(user, AS_OF)).toarray()[0]
        features = list(illustrated.features(user, AS_OF).values())
        for sale_number, reason in zip(row["meta_sales"], row["meta_reasons"], strict=True):
            added = [
                weight * feature[sale_number]
                for weight, feature in zip(model_with_images.coefficients, features, strict=True)
            ]
            name, _, theme = scorer.reasons[reason].partition("/")
            assert added[scorer.names.index(name)] == pytest.approx(max(added), rel=1e-4, abs=1e-6)
            if name == "content_images":
                shared = taste * profiles[sale_number]
                assert bool(theme) == shared.any()
                assert not theme or shared[scorer_theme(theme)] == pytest.approx(shared.max(), rel=1e-4)
                themes.add(reason)
            plain += name != "content_images"
    assert plain > 30
    assert len(themes) > 10
    assert max(themes) > 127


def scorer_theme(name: str) -> int:
    return int(name.removeprefix("theme "))


def test_policy_by_photos_alone_gives_themes_as_reasons_where_there_are_any(illustrated, found_with_images):
    scorer = illustrated.scorer(AS_OF)
    for row in found_with_images.values():
        for score, reason in zip(row["content_images_scores"], row["content_images_reasons"], strict=True):
            name, _, theme = scorer.reasons[reason].partition("/")
            assert (name, bool(theme)) == ("content_images", score > 0)


def test_photo_that_is_shown_is_most_like_the_user(illustrated, found_with_images):
    scorer, gallery = illustrated.scorer(AS_OF), illustrated.data.catalogue.gallery
    images = scorer.models[scorer.names.index("content_images")]
    counts = np.diff(gallery.first)[scorer.horizon.sales]
    assert {0, 1} < set(counts.tolist())
    assert counts.max() > CHOICES
    shown = []
    for user, row in found_with_images.items():
        taste = images.user_profiles(illustrated.known(user, AS_OF)).toarray()[0]
        for policy in ("meta", "content_images"):
            for sale_number, cover in zip(row[f"{policy}_sales"], row[f"{policy}_covers"], strict=True):
                first, last = gallery.first[scorer.horizon.sales[sale_number] + np.arange(2)]
                photos = gallery.photo_themes[first : min(last, first + CHOICES)]
                cosines = [float(taste @ photo) / (np.linalg.norm(photo) or 1) for photo in photos]
                best = [number for number, value in enumerate(cosines) if value >= max(cosines) * (1 - 2e-5)]
                assert cover == (best[0] if best else 0)
                shown.append(cover)
    assert len(set(shown)) > 4


def test_user_who_looked_at_no_photos_is_shown_the_covers(illustrated, found_with_images):
    scorer, unknown = illustrated.scorer(AS_OF), 0
    images = scorer.models[scorer.names.index("content_images")]
    for user, row in found_with_images.items():
        if not images.user_profiles(illustrated.known(user, AS_OF)).toarray().any():
            unknown += 1
            assert not any(row["meta_covers"] + row["content_images_covers"])
            assert set(row["content_images_scores"]) == {0}
    nobody = illustrated.data.block.take(np.array([illustrated.users.index("u30")])).as_of(
        AS_OF, illustrated.shop.history
    )
    settings = RankingSettings(kept=10, policies=("content_images",))
    covers = illustrated.shop.covers(AS_OF)
    _, _, why, chosen = ranked_lists(nobody, scorer, MetaModel([], [], [], [], 0.0), settings, covers)
    assert not any(chosen.to_pylist()[0])
    assert set(why.to_pylist()[0]) == {scorer.names.index("content_images")}


def test_partitions_change_nothing_of_reasons_and_photos(illustrated, model_with_images, found_with_images):
    settings = RankingSettings(kept=40, policies=("meta", "content_images"))
    whole = illustrated.histories.repartition(1)
    assert ranked(rankings(whole, illustrated.shop, AS_OF, model_with_images, settings)) == found_with_images


def test_shop_without_photos_or_without_the_recommender_shows_covers(illustrated, found):
    for row in found.values():
        assert not any(any(row[f"{policy}_covers"]) for policy in POLICIES)
    scorer = illustrated.scorer(AS_OF)
    kept = [number for number, name in enumerate(scorer.names) if name != "content_images"]
    without = replace(
        scorer,
        recommenders=[scorer.recommenders[number] for number in kept],
        models=[scorer.models[number] for number in kept],
    )
    known = illustrated.data.block.as_of(AS_OF, illustrated.shop.history)
    settings = RankingSettings(kept=10, policies=("popularity",))
    lists = list(ranked_lists(known, without, MetaModel([], [], [], [], 0.0), settings, illustrated.shop.covers(AS_OF)))
    assert not np.concatenate(lists[3].to_pylist()).any()
