from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.config.pipeline import RankingSettings
from recsys.instants import DAY, SECOND
from recsys.meta_model import LogisticModel, MetaModel
from recsys.pipeline.fitting import fitted_recommenders
from recsys.pipeline.histories import user_histories
from recsys.pipeline.rankings import history_lists, ranked_lists, rankings
from recsys.ranking.covers import CHOICES
from recsys.ranking.ranker import Ranker
from recsys.recommenders.context import LOW_IS_EVIDENCE
from recsys.recommenders.own import bought_before
from recsys.shop.histories import Histories
from recsys.storage.outputs import Outputs
from recsys.tables.night import FITTED_RECOMMENDERS
from recsys.testing.closeness import assert_close, assert_same_order, rounding
from recsys.testing.shops import AS_OF, instant, make_shop, purchase, random_shop, sale, visit
from tests.helpers.shops import log_odds_one_by_one, with_photos, write_photos

POLICIES = ("meta", "collaborative", "own_visits")
TERMS = 12 * 20
"""Largest number of terms of a score: events of a history times features of a profile, or features of a page."""


def ranked(frame) -> dict[str, dict]:
    rows = [row.asDict() for row in frame.collect()]
    found = {row["user_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def found(fitted, meta_model) -> dict[str, dict]:
    settings = RankingSettings(top_k=10, policies=POLICIES)
    return ranked(rankings(fitted.histories, fitted.shop, AS_OF, meta_model, settings))


def scores_of(fitted, meta_model, user: str, as_of: int) -> dict[str, np.ndarray]:
    scorer, known = fitted.scorer(as_of), fitted.known(user, as_of)
    scores = {name: scorer.score(name, known)[0] for name in scorer.names}
    curve = meta_model.calibration
    calibrated = np.interp(log_odds_one_by_one(scorer, meta_model, known), curve.said, curve.true)
    return {**scores, "meta": calibrated.astype(np.float32)}


def test_sales_are_those_of_each_user_ranked_in_plain_python_ties_by_sale(fitted, meta_model, found):
    ties = 0
    for user, row in found.items():
        for policy in POLICIES:
            scores = scores_of(fitted, meta_model, user, AS_OF)[policy].tolist()
            order = sorted(range(len(scores)), key=lambda sale: (-scores[sale], sale))[:10]
            sales, best = row[f"{policy}_sales"], row[f"{policy}_scores"]
            assert_same_order(scores, sales, order, within=rounding(scores, TERMS, dtype=np.float32).item())
            assert_close(best, [scores[sale] for sale in order], terms=TERMS, dtype=np.float32)
            if policy != "meta":  # whose scores are calibrated after they are ranked
                assert sales == [sale for _, sale in sorted(zip((-score for score in best), sales, strict=True))]
            ties += len(set(best)) < len(best)
    assert ties > 10


def test_reason_is_the_evidence_that_adds_most_to_the_log_odds(fitted, meta_model, found):
    reasons = [*meta_model.features, "open"]
    for user, row in found.items():
        features = fitted.features(user, AS_OF)
        columns = bought_before(fitted.known(user, AS_OF), fitted.scorer(AS_OF).horizon)[1]
        for sale_number, reason in zip(row["meta_sales"], row["meta_reasons"], strict=True):
            repeat = sale_number in columns
            coefficients = meta_model.repeat.coefficients if repeat else meta_model.coefficients
            added = {
                name: coefficient * (feature[sale_number] - mean) / scale
                for (name, feature), coefficient, mean, scale in zip(
                    features.items(), coefficients, meta_model.means, meta_model.scales, strict=True
                )
                if is_evidence(name, feature, sale_number)
            }
            assert added.get(reasons[reason], 0.0) == pytest.approx(max([0.0, *added.values()]), rel=1e-4)
        for policy in ("own_visits", "collaborative"):
            for score, reason in zip(row[f"{policy}_scores"], row[f"{policy}_reasons"], strict=True):
                assert reasons[reason] == (policy if score > 0 else "open")


def test_users_without_a_known_event_in_the_history_window_are_absent(fitted, found):
    start = AS_OF - fitted.shop.history.days * DAY
    expected = {
        row["user_id"]
        for row in fitted.data.event_rows
        if start <= row["occurred_at"] < AS_OF and row["recorded_at"] < AS_OF
    }
    assert set(found) == expected
    assert len(expected) < len(fitted.users)


def test_history_has_the_users_latest_events_latest_last(fitted, meta_model, found):
    start, most = AS_OF - fitted.shop.history.days * DAY, 5
    settings = RankingSettings(top_k=10, history_events=most)
    fewer = ranked(rankings(fitted.histories, fitted.shop, AS_OF, meta_model, settings))
    longest = 0
    for user, row in found.items():
        events = [
            (each["occurred_at"], fitted.data.catalogue.position[each["sale_id"]], each["kind"] == "purchase")
            for each in fitted.data.event_rows
            if each["user_id"] == user and start <= each["occurred_at"] < AS_OF and each["recorded_at"] < AS_OF
        ]
        expected = [
            [sale, int(np.ceil((AS_OF - occurred_at) / SECOND)), is_purchase]
            for occurred_at, sale, is_purchase in sorted(events)[-fitted.shop.history.max_events :]
        ]
        assert history_of(row) == expected
        assert history_of(fewer[user]) == expected[-most:]
        longest = max(longest, len(expected))
    assert longest == fitted.shop.history.max_events > most


def history_of(row: dict) -> list[list]:
    columns = [row[f"history_{name}"] for name in ("sales", "ages", "purchases")]
    return [list(event) for event in zip(*columns, strict=True)]


def lists_of(known: Histories, most: int) -> list[list]:
    return [lists.to_pylist() for lists in history_lists(known, most)]


def test_ages_are_rounded_up_so_that_no_event_looks_like_one_of_a_running_session():
    second = 1 / 86_400
    events = [
        visit("u", "a", -90),
        purchase("u", "b", -1.5 * second),
        visit("u", "a", -second),
        visit("v", "b", -1e-11),
    ]
    known = make_shop([sale("a"), sale("b")], events, users=["t"]).histories()
    assert known.occurred_at.tolist() == [instant(-90), AS_OF - 1_500_000, AS_OF - 1_000_000, AS_OF - 1]
    assert lists_of(known, 9) == [
        [[], [0, 1, 0], [1]],
        [[], [90 * 86_400, 2, 1], [1]],
        [[], [False, True, False], [False]],
    ]


@pytest.mark.parametrize("most", [0, 1, 2])
def test_long_history_is_limited_to_the_latest_events(most):
    events = [visit("u", name, day) for name, day in (("a", -3), ("b", -2), ("c", -1))] + [purchase("v", "c", -1)]
    known = make_shop([sale("a"), sale("b"), sale("c")], events, users=["t", "w"]).histories()
    sales, ages, purchases = lists_of(known, most)
    assert sales == [[], [0, 1, 2][3 - most :], [2][1 - min(most, 1) :], []]
    assert [len(each) for each in ages] == [len(each) for each in purchases] == [0, most, min(most, 1), 0]


def test_partitions_change_nothing(fitted, meta_model, found):
    settings = RankingSettings(top_k=10, policies=POLICIES)
    repeat = ranked(rankings(fitted.histories.repartition(1), fitted.shop, AS_OF, meta_model, settings))
    assert repeat == found


def test_ranking_has_all_sales_if_the_horizon_has_fewer_than_configured(fitted, meta_model):
    row = next(
        iter(ranked(rankings(fitted.histories, fitted.shop, AS_OF, meta_model, RankingSettings(top_k=255))).values())
    )
    n_sales = len(fitted.shop.horizon(AS_OF))
    assert 10 < n_sales < 255
    assert sorted(row["meta_sales"]) == list(range(n_sales))


def test_shop_without_known_users_has_no_ranking(fitted_shop, meta_model):
    data = make_shop([sale("a", -3, 3), sale("b", -5, 3)], [visit("u", "a", -1, recorded=0), visit("v", "a", -50)])
    shop = fitted_shop(data)
    assert ranked(rankings(shop.histories, shop.shop, AS_OF, meta_model, RankingSettings())) == {}


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
    shop = replace(fitted.shop, outputs=Outputs(str(folder)))
    histories = user_histories(spark.createDataFrame(data.events), data.catalogue).repartition(3).cache()
    FITTED_RECOMMENDERS.write(fitted_recommenders(histories, shop, [AS_OF]), folder)
    return replace(fitted, data=data, shop=shop, histories=histories, instants=[AS_OF])


@pytest.fixture(scope="module")
def model_with_images(illustrated) -> MetaModel:
    """A model in which photos have the largest coefficient."""
    names = [recommender.name for recommender in illustrated.shop.recommenders]
    weights = [3.0 if name == "content_images" else 0.2 for name in names]
    return LogisticModel(names, [0.0] * len(names), [1.0] * len(names), weights, -3.0)


@pytest.fixture(scope="module")
def found_with_images(illustrated, model_with_images) -> dict[str, dict]:
    settings = RankingSettings(top_k=40, policies=("meta", "content_images"))
    return ranked(rankings(illustrated.histories, illustrated.shop, AS_OF, model_with_images, settings))


def test_reason_by_photos_names_the_theme_with_the_largest_contribution(
    illustrated, model_with_images, found_with_images
):
    scorer = illustrated.scorer(AS_OF)
    images = scorer.models[scorer.names.index("content_images")]
    profiles = images.profiles.toarray()[scorer.horizon.sales]
    plain, themes = 0, set()
    for user, row in found_with_images.items():
        taste = images.user_profiles(illustrated.known(user, AS_OF))[0]
        features = list(illustrated.features(user, AS_OF).values())
        for sale_number, reason in zip(row["meta_sales"], row["meta_reasons"], strict=True):
            added = [
                weight * feature[sale_number] if is_evidence(name, feature, sale_number) else 0.0
                for name, weight, feature in zip(scorer.names, model_with_images.coefficients, features, strict=True)
            ]
            name, _, theme = scorer.reasons[reason].partition("/")
            reached = 0.0 if name == "open" else added[scorer.names.index(name)]
            assert reached == pytest.approx(max([0.0, *added]), rel=1e-4, abs=1e-6)
            if name == "content_images":
                shared = taste * profiles[sale_number]
                assert bool(theme) == shared.any()
                assert not theme or shared[scorer_theme(theme)] == pytest.approx(shared.max(), rel=1e-4)
                themes.add(reason)
            plain += name != "content_images"
    assert plain > 30
    assert len(themes) > 10
    assert max(themes) > 127


def is_evidence(name: str, feature: np.ndarray, sale_number: int) -> bool:
    """Whether a feature speaks for a sale: a high value among those of all sales, or a low one where that is better."""
    value = -feature[sale_number] if name in LOW_IS_EVIDENCE else feature[sale_number]
    return value > 1e-4 and np.ptp(feature) > 1e-4


def scorer_theme(name: str) -> int:
    return int(name.removeprefix("theme "))


def test_reasons_of_a_policy_by_photos_alone_are_themes(illustrated, found_with_images):
    scorer = illustrated.scorer(AS_OF)
    for row in found_with_images.values():
        for score, reason in zip(row["content_images_scores"], row["content_images_reasons"], strict=True):
            name, _, theme = scorer.reasons[reason].partition("/")
            assert (name, bool(theme)) == (("content_images", True) if score > 0 else ("open", False))


def test_shown_photo_is_the_most_similar_to_the_users_taste(illustrated, found_with_images):
    scorer, gallery = illustrated.scorer(AS_OF), illustrated.data.catalogue.gallery
    images = scorer.models[scorer.names.index("content_images")]
    counts = np.diff(gallery.first)[scorer.horizon.sales]
    assert {0, 1} < set(counts.tolist())
    assert counts.max() > CHOICES
    shown = []
    for user, row in found_with_images.items():
        taste = images.user_profiles(illustrated.known(user, AS_OF))[0]
        for policy in ("meta", "content_images"):
            for sale_number, cover in zip(row[f"{policy}_sales"], row[f"{policy}_covers"], strict=True):
                first, last = gallery.first[scorer.horizon.sales[sale_number] + np.arange(2)]
                photos = gallery.photo_themes[first : min(last, first + CHOICES)]
                cosines = [float(taste @ photo) / (np.linalg.norm(photo) or 1) for photo in photos]
                best = [number for number, value in enumerate(cosines) if value >= max(cosines) * (1 - 2e-5)]
                assert cover == (best[0] if best else 0)
                shown.append(cover)
    assert len(set(shown)) > 4


def test_user_without_visits_of_photos_is_shown_the_covers(illustrated, found_with_images):
    scorer, unknown = illustrated.scorer(AS_OF), 0
    images = scorer.models[scorer.names.index("content_images")]
    for user, row in found_with_images.items():
        if not images.user_profiles(illustrated.known(user, AS_OF)).any():
            unknown += 1
            assert not any(row["meta_covers"] + row["content_images_covers"])
            assert set(row["content_images_scores"]) == {0}
    nobody = illustrated.data.block.take(np.array([illustrated.users.index("u30")])).as_of(
        AS_OF, illustrated.shop.history
    )
    settings = RankingSettings(top_k=10, policies=("content_images",))
    ranker = illustrated.shop.ranker(AS_OF, LogisticModel([], [], [], [], 0.0))
    _, _, why, chosen = ranked_lists(ranker, nobody, settings)
    assert not any(chosen.to_pylist()[0])
    assert {scorer.reasons[reason] for reason in why.to_pylist()[0]} == {"open"}


def test_partitions_change_nothing_of_reasons_and_photos(illustrated, model_with_images, found_with_images):
    settings = RankingSettings(top_k=40, policies=("meta", "content_images"))
    whole = illustrated.histories.repartition(1)
    assert ranked(rankings(whole, illustrated.shop, AS_OF, model_with_images, settings)) == found_with_images


def test_shop_without_photos_or_without_the_recommender_shows_covers(illustrated, found):
    for row in found.values():
        assert not any(any(row[f"{policy}_covers"]) for policy in POLICIES)
    ranker = illustrated.shop.ranker(AS_OF, LogisticModel([], [], [], [], 0.0))
    kept = [number for number, name in enumerate(ranker.scorer.names) if name != "content_images"]
    without = replace(
        ranker.scorer,
        recommenders=[ranker.scorer.recommenders[number] for number in kept],
        models=[ranker.scorer.models[number] for number in kept],
    )
    known = illustrated.data.block.as_of(AS_OF, illustrated.shop.history)
    settings = RankingSettings(top_k=10, policies=("popularity",))
    for other in (replace(ranker, scorer=without), Ranker(ranker.scorer, ranker.meta_model)):
        assert ranker.covers is not None
        _, _, _, chosen = ranked_lists(other, known, settings)
        assert not np.concatenate(chosen.to_pylist()).any()
