import numpy as np
import pandas as pd
import pytest

from demo_shop import traffic
from demo_shop.rhythm import DAY, HOUR


def test_visits_lie_inside_the_window_of_their_sale_and_before_the_end(shop):
    visits = shop.events[shop.events["action"] == "view"]
    assert (visits["starts"] <= visits["happened_at"]).all()
    assert (visits["happened_at"] < visits["ends"]).all()
    assert (visits["happened_at"] < pd.Timestamp(shop.settings.ends_at)).all()


def test_evenings_are_busier_than_nights(shop):
    by_hour = shop.events["happened_at"].dt.hour.value_counts()
    assert by_hour[[19, 20, 21]].sum() > 5 * by_hour[[2, 3, 4]].sum()


def test_a_user_who_joins_late_has_no_earlier_session():
    users = pd.DataFrame({"sessions": [1, 300], "joins": [0.0, 0.75]})
    user, start = traffic.sessions(np.random.default_rng(0), users, 0, 40 * DAY)
    assert np.bincount(user).tolist() == [1, 300]
    assert (np.diff(start) >= 0).all()
    assert start[user == 1].min() > 28 * DAY


def test_a_sale_is_visited_in_proportion_to_the_exponential_of_its_appeal():
    appeal = np.tile(np.log([1.0, 3.0, 6.0]), (20_000, 1))
    _, first, _ = traffic._draw_visits(np.random.default_rng(0), appeal, np.ones(20_000, dtype=np.int64))
    assert np.bincount(first) / 20_000 == pytest.approx([0.1, 0.3, 0.6], abs=0.01)


def test_a_session_never_looks_at_a_closed_sale_or_at_one_sale_twice():
    sales = pd.DataFrame({"opens_at": [0, 12 * HOUR, 0], "closes_at": [10 * HOUR, 20 * HOUR, 20 * HOUR]})
    n_sessions = 500
    start = np.linspace(HOUR, 19 * HOUR, n_sessions).astype(np.int64)
    visits = traffic.visits(
        np.random.default_rng(0),
        np.arange(n_sessions),
        start,
        sales,
        np.ones((n_sessions, 1)),
        np.ones((3, 1)),
        traffic.Fading.alike(3),
    )
    opens_at, closes_at = (sales[name].to_numpy()[visits["sale"]] for name in ("opens_at", "closes_at"))
    assert (opens_at <= visits["occurred_at"]).all()
    assert (visits["occurred_at"] < closes_at).all()
    assert not visits.duplicated(["user", "sale"]).any()
    assert visits["user"].nunique() == n_sessions
