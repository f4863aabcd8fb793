from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from recsys.instants import QUARTER
from recsys.ranking.moments import Moments, quarters
from recsys.ranking.scorer import Scorer
from recsys.recommenders import recommenders
from recsys.recommenders.popularity import N_QUARTERS, Popularity, PopularitySettings
from recsys.testing.shops import AS_OF, HISTORY, instant, make_shop, purchase, random_shop, sale, visit
from tests.helpers.shops import RECOMMENDERS

HORIZON_HOURS = 36


def fitted(data, as_of: int = AS_OF) -> Scorer:
    """Fit every recommender, with what popularity counts through the day."""
    horizon, known = data.catalogue.horizon(as_of, HORIZON_HOURS), data.block.as_of(as_of, HISTORY)
    models = []
    for each in recommenders(RECOMMENDERS, data.catalogue):
        statistics = each.count(known, horizon)
        if isinstance(each, Popularity):
            statistics |= each.count_later(data.block, horizon)
        models.append(each.load(each.fit(statistics, horizon).arrays(), horizon))
    return Scorer(horizon, recommenders(RECOMMENDERS, data.catalogue), models)


@pytest.fixture(scope="module")
def data():
    shop = random_shop(5, n_users=40, n_sales=50, n_events=3000)
    block = shop.block  # neither a night nor its day counts what occurred before the night and was recorded after it
    recorded_at = np.where(block.occurred_at < AS_OF, block.occurred_at, block.recorded_at)
    return replace(shop, block=replace(block, recorded_at=recorded_at))


@pytest.mark.parametrize("quarter", [0, 1, 30, 95])
def test_what_is_counted_later_is_what_a_night_at_that_moment_would_count_more(data, quarter):
    scorer, moment = fitted(data), AS_OF + quarter * QUARTER
    known = data.block.as_of(moment, HISTORY)
    popularity = [each for each in scorer.recommenders if isinstance(each, Popularity)]
    assert len(popularity) == 3
    for recommender in popularity:
        model = scorer.models[scorer.names.index(recommender.name)]
        left = 2.0 ** ((AS_OF - moment) / (recommender.settings.half_life_days * 96 * QUARTER))
        then = recommender.count(known, scorer.horizon)["events"]
        later = np.zeros(len(then))
        later[scorer.horizon.sales] = (then - model.events * left)[scorer.horizon.sales]
        assert_allclose(model.counted_by(quarter), later, atol=2e-4)
        assert quarter == 0 or later.max() > 1


def events_of(events: list[dict], quarter: int) -> list[float]:
    """Return what popularity counts of sales a and b by a quarter; nothing decays noticeably."""
    data = make_shop([sale("a", closes=0.9), sale("b", opens=0.25)], events)
    settings = PopularitySettings(half_life_days=1e6, purchase_weight=5)
    recommender = Popularity(settings, data.catalogue, recommenders(RECOMMENDERS, data.catalogue)[0])
    later = recommender.count_later(data.block, data.catalogue.horizon(AS_OF, HORIZON_HOURS))["later"]
    return [round(float(value), 3) for value in later[quarter]]


def test_a_users_purchase_takes_the_place_of_their_visits_once_it_is_known():
    events = [visit("u", "a", 0.1), visit("u", "a", 0.2), purchase("u", "a", 0.3), visit("u", "a", 0.4)]
    at = {day: round(day * 96) for day in (0.1, 0.2, 0.3, 0.5)}
    assert [events_of(events, quarter)[0] for quarter in (at[0.1] - 1, at[0.2], at[0.3] + 1, at[0.5])] == [0, 1, 5, 5]


def test_what_is_recorded_late_counts_from_then_on_and_what_was_before_the_day_never():
    events = [purchase("u", "a", 0.1, recorded=0.5), visit("v", "a", 0.2), visit("w", "a", -0.1, recorded=0.1)]
    assert [events_of(events, quarter)[0] for quarter in (10, 20, 48, 49)] == [0, 1, 1, 6]


def test_only_visits_of_open_sales_count():
    events = [visit("u", "b", 0.2), visit("v", "b", 0.3), visit("w", "a", 0.95)]
    assert events_of(events, 95) == [0, 1]


def test_shared_features_are_those_of_a_scorer_as_of_the_moment_and_others_stay(data):
    scorer = fitted(data)
    known = data.block.as_of(AS_OF, HISTORY)
    features = scorer.features(known)
    moments = quarters(AS_OF + np.arange(len(known)) * 40 * 60_000_000, AS_OF)
    found = Moments(scorer).update_pages(features, moments)
    shared = np.array([not each.is_personal for each in scorer.recommenders])
    assert shared.sum() == 5
    np.testing.assert_array_equal(found[~shared], features[~shared])
    for user, quarter in enumerate(moments.tolist()):
        then = fitted(data, AS_OF + quarter * QUARTER)
        columns = then.horizon.columns(scorer.horizon.sales)
        still = columns >= 0  # the horizon of the moment has no sale that has closed since
        for number in np.flatnonzero(shared):
            if not scorer.names[number].startswith("popularity"):
                continue
            raw = then.models[number].rates[columns[still]]
            expected = np.log1p(scorer.recommenders[number].scale * raw)
            difference = found[number, user][still] - expected
            assert np.ptp(difference) < 1e-4  # both are centred, on the means of their horizons
    hours = found[scorer.names.index("hours_open")]
    opened = data.catalogue.opens_at[scorer.horizon.sales]
    expected = np.log1p(np.maximum(AS_OF + moments[:, None] * QUARTER - opened, 0) / (4 * QUARTER))
    assert_allclose(hours, expected - expected.mean(axis=1, keepdims=True), atol=1e-5)


def test_cells_get_the_same_values_as_pages(data):
    scorer = fitted(data)
    features = scorer.features(data.block.as_of(AS_OF, HISTORY))
    moments = np.arange(features.shape[1]) * 2 % N_QUARTERS
    users, columns = np.nonzero(np.random.default_rng(1).random(features.shape[1:]) < 0.1)
    pages = Moments(scorer).update_pages(features, moments)
    cells = Moments(scorer).update_cells(features[:, users, columns], columns, moments[users])
    np.testing.assert_array_equal(cells, pages[:, users, columns])


def test_what_happens_from_the_session_of_a_purchase_on_changes_no_feature_of_its_page(data):
    is_open = (data.catalogue.opens_at < AS_OF) & (data.catalogue.closes_at > instant(1))
    bought, other = (data.catalogue.sale_ids[each] for each in np.flatnonzero(is_open)[:2])
    users = [f"u{number:02d}" for number in range(1, 30)]
    known = [row for row in data.event_rows if row["occurred_at"] < AS_OF]
    known += [visit(user, other, 0.3) for user in users]
    session = [visit("u00", bought, 0.503), visit("u00", bought, 0.505), purchase("u00", bought, 0.51)]
    worlds = {
        "as it was": [],
        "later": [visit(user, bought, 0.5 + number * 1e-3) for number, user in enumerate(users, 1)],
        "recorded late": [purchase(user, bought, 0.4, recorded=0.5) for user in users],
        "earlier": [visit(user, bought, 0.4) for user in users],
    }
    found = {}
    for name, events in worlds.items():
        world = make_shop(data.sale_rows, [*known, *session, *events], data.block.user_ids.to_pylist())
        block = world.block.take(np.array([world.block.user_ids.to_pylist().index("u00")]))
        sessions = block.session_starts()[block.purchases_between(AS_OF, instant(1))[1]]
        assert sessions.tolist() == [instant(0.503)]
        scorer = fitted(world)
        features = scorer.features(block.as_of(AS_OF, HISTORY))
        found[name] = Moments(scorer).update_pages(features, quarters(sessions, AS_OF))
    assert_allclose(found["later"], found["as it was"], atol=1e-5)
    assert_allclose(found["recorded late"], found["as it was"], atol=1e-5)
    assert np.abs(found["earlier"] - found["as it was"]).max() > 0.1


def test_moments_outside_of_the_day_are_those_at_its_ends():
    assert quarters(np.array([instant(-1), AS_OF, instant(0.5), instant(3)]), AS_OF).tolist() == [0, 0, 48, 95]


def test_a_night_has_no_moments(data):
    horizon = data.catalogue.horizon(AS_OF, HORIZON_HOURS)
    recommender = next(each for each in recommenders(RECOMMENDERS, data.catalogue) if isinstance(each, Popularity))
    model = recommender.fit(recommender.count(data.block.as_of(AS_OF, HISTORY), horizon), horizon)
    with pytest.raises(ValueError, match="must be the instant of a past day"):
        model.counted_by(3)
