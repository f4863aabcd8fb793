from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from recsys.instants import DAY, HOUR, SECOND
from recsys.recommenders.content import MetadataSettings, content_metadata
from recsys.recommenders.popularity import Popularity, PopularitySettings
from recsys.shop import live_counts as module
from recsys.shop.live_counts import (
    MINUTE,
    CountedHour,
    CountedMinutes,
    LiveCounts,
    change_minute,
    changes_by_minute,
    changes_of_counted,
)
from recsys.testing.shops import AS_OF, HISTORY, instant, make_shop, sale, visit
from tests.helpers.counted_events import counted_once, counts_by_sale, live_counts

NOON = AS_OF + 12 * HOUR


def added(events: list) -> list:
    """Count a user's events one after the other, and return those that count at the end, in order of time."""
    counted = []
    for number, event in enumerate(events):
        more, less = changes_of_counted(events[:number], [event])
        counted = [each for each in counted if each not in less] + more
    return sorted(counted, key=lambda event: event[2])


def test_user_counts_once_a_day_and_sale_as_the_last_purchase_or_else_the_last_visit():
    events = [
        ("a", False, NOON + 2),
        ("a", False, NOON + 1),  # earlier than what is known
        ("b", False, NOON + 9),
        ("b", True, NOON + 3),  # a purchase, although earlier than the visit
        ("b", True, NOON + 4),
        ("b", False, NOON + 10),
        ("a", False, NOON + DAY),  # on another day
        ("a", False, NOON + 2),  # delivered again
    ]
    assert added(events) == [("a", False, NOON + 2), ("b", True, NOON + 4), ("a", False, NOON + DAY)]


def test_events_of_one_call_are_counted_as_if_they_came_one_by_one():
    events = [("a", False, NOON), ("a", True, NOON + 1), ("b", False, NOON), ("a", True, NOON + DAY)]
    more, less = changes_of_counted([], events)
    assert (sorted(more), less) == ([("a", True, NOON + 1), ("a", True, NOON + DAY), ("b", False, NOON)], [])
    assert changes_of_counted(events, [("b", True, NOON)]) == ([("b", True, NOON)], [("b", False, NOON)])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 60 * HOUR)), max_size=30), st.randoms())
def test_any_order_of_arrival_any_retries_and_any_calls_count_the_same(offsets, random: Random):
    events = [(sale_id, is_purchase, AS_OF + offset) for sale_id, is_purchase, offset in offsets]
    arriving = events + events[: len(events) // 2]
    random.shuffle(arriving)
    minutes, known = {}, []
    while arriving:
        batch = [arriving.pop() for _ in range(min(len(arriving), random.randint(1, 4)))]
        for minute, changes in changes_by_minute(*changes_of_counted(known, batch)).items():
            change_minute(minutes.setdefault(minute, {}), changes)
        known += batch
    expected = {}
    for minute, changes in changes_by_minute(counted_once({"ann": events}), []).items():
        change_minute(expected.setdefault(minute, {}), changes)
    assert {minute: counts for minute, counts in minutes.items() if counts} == expected


@given(
    st.lists(st.tuples(st.sampled_from("uvwx"), st.sampled_from("abc"), st.booleans(), st.floats(-2, 0)), min_size=1),
    st.sampled_from([0.0, -0.0003, -0.7]),
    st.sampled_from([(2.0, 5.0), (0.3, 0.5)]),
)
def test_decayed_counts_are_those_of_popularity_at_any_instant(tuples, days, chosen):
    at, (half_life, weight) = instant(days), chosen
    rows = [
        {**visit(user_id, sale_id, day), "kind": "purchase" if bought else "visit"}
        for user_id, sale_id, bought, day in tuples
    ]
    shop = make_shop([sale(name, -9, 9) for name in "abc"], rows)
    settings = PopularitySettings(half_life_days=half_life, purchase_weight=weight)
    popularity = Popularity(settings, shop.catalogue, content_metadata(MetadataSettings(), shop.catalogue))
    expected = popularity.count(shop.block.as_of(at, HISTORY), shop.horizon())["events"]
    events: dict[str, list] = {}
    for row in rows:
        if row["occurred_at"] < at:
            event = row["sale_id"], row["kind"] == "purchase", row["occurred_at"]
            events.setdefault(row["user_id"], []).append(event)
    counts = live_counts(counted_once(events))
    found = dict(zip(counts.sale_ids, counts.decayed(at, 0, half_life, weight), strict=True))
    assert_allclose([found.get(name, 0) for name in "abc"], expected, rtol=1e-6)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(-1.9, 0)), min_size=1, max_size=40),
    st.sampled_from([0.0, -0.3, -0.7]),
)
def test_events_before_a_sale_opens_and_after_it_closes_do_not_count_as_in_the_night(tuples, days):
    """Each user has one event; sales open and close within hours, and at their ends."""
    at, windows = instant(days), {"a": (-1.75, -0.25), "b": (-0.8, 9), "c": (-9, -1 - 7 / 1440)}
    rows = [
        {**visit(f"u{number}", sale_id, day), "kind": "purchase" if bought else "visit"}
        for number, (sale_id, bought, day) in enumerate(tuples)
    ]
    shop = make_shop([sale(name, *window) for name, window in windows.items()], rows)
    popularity = Popularity(PopularitySettings(), shop.catalogue, content_metadata(MetadataSettings(), shop.catalogue))
    expected = popularity.count(shop.block.as_of(at, HISTORY), shop.horizon())["events"]
    counts = live_counts([(row["sale_id"], row["kind"] == "purchase", row["occurred_at"]) for row in rows])
    positions = ["abc".index(sale_id) for sale_id in counts.sale_ids]
    opens_at, closes_at = shop.catalogue.opens_at[positions], shop.catalogue.closes_at[positions]
    counts.decayed(at, 0, 2.0, 5.0)  # what whole hours add up to without bounds must not be taken
    for _ in range(2):
        found = np.zeros(3)
        found[positions] = counts.decayed(at, opens_at, 2.0, 5.0, closes_at)
        assert_allclose(found, expected, rtol=1e-6)


def test_whole_hours_are_added_up_again_only_where_bounds_inside_them_differ(monkeypatch):
    counts = live_counts([("a", False, NOON + 90 * MINUTE), ("a", True, NOON + 10 * MINUTE)])
    added_up, add_up = [], CountedHour._decayed
    monkeypatch.setattr(
        CountedHour, "_decayed", lambda self, *given: added_up.append(self.hour) or add_up(self, *given)
    )
    at, first = NOON + 5 * HOUR, NOON // HOUR
    for opens_at, again in ((0, [first, first + 1]), (NOON - HOUR, []), (NOON, []), (NOON + 20 * MINUTE, [first])):
        counts.decayed(at, np.array([opens_at]), 2, 5, np.array([at + HOUR]))
        counts.decayed(at + MINUTE, np.array([opens_at]), 2, 5, np.array([at]))
        assert added_up == again
        added_up.clear()


def test_decayed_events_are_those_of_the_given_time_with_purchases_weighted():
    counts = live_counts(
        [
            ("a", False, NOON - 2 * DAY),
            ("a", True, NOON - DAY),
            ("b", False, NOON - DAY - 1),
            ("b", False, NOON),
            ("b", True, NOON + MINUTE),
        ]
    )
    assert counts.sale_ids == ["a", "b"]
    decayed = counts.decayed(NOON, NOON - 2 * DAY, half_life_days=1, purchase_weight=5)
    assert_allclose(decayed, [1 / 4 + 5 / 2, 1 / 2], rtol=1e-9)
    assert_allclose(counts.decayed(NOON, NOON - DAY, 1, 5), [5 / 2, 0])  # from an instant on, up to before another
    assert_allclose(counts.decayed(NOON + DAY, NOON + 1, 1, 5), [0, 5 * 2 ** (-(DAY - MINUTE) / DAY)], rtol=1e-9)
    assert counts.n_events == 5


def test_events_of_one_minute_are_taken_at_their_mean_instant():
    counts = live_counts([("a", False, NOON + 10 * SECOND), ("a", False, NOON + 30 * SECOND)])
    assert_allclose(counts.decayed(NOON + DAY, 0, 1, 5), [2 * 2 ** (-(DAY - 20 * SECOND) / DAY)], rtol=1e-12)
    assert counts.decayed(NOON + 20 * SECOND, 0, 1, 5).tolist() == [0]
    assert counts.decayed(NOON + 20 * SECOND + 1, 0, 1, 5)[0] > 1.99


@pytest.mark.parametrize("since", [0, NOON - 90 * MINUTE, NOON])
def test_hours_that_were_added_up_before_are_the_same_later(since):
    """A whole hour is added up once: it must not matter what was asked before, and settings must not be mixed up."""
    random = Random(5)
    events = [(random.choice("abc"), random.random() < 0.3, NOON - random.randrange(5 * HOUR)) for _ in range(200)]
    counts = live_counts(counted_once({str(number): [event] for number, event in enumerate(events)}))
    for at in (NOON, NOON + 7 * MINUTE, NOON + DAY, NOON - HOUR):
        for half_life, weight in ((2.0, 5.0), (2.0, 1.0), (0.1, 5.0)):
            fresh = live_counts(counted_once({str(number): [event] for number, event in enumerate(events)}))
            assert_allclose(
                counts.decayed(at, since, half_life, weight), fresh.decayed(at, since, half_life, weight), rtol=1e-9
            )
            by_hand = np.zeros(3)
            for sale_id, is_purchase, occurred_at in events:
                if since <= occurred_at < at:
                    weighs = weight if is_purchase else 1
                    by_hand[counts.sale_ids.index(sale_id)] += weighs * 2 ** ((occurred_at - at) / half_life / DAY)
            assert_allclose(counts.decayed(at, since, half_life, weight), by_hand, rtol=2e-5)


def test_without_events_nothing_is_counted():
    assert LiveCounts().decayed(NOON, 0, 2, 5).shape == (0,)
    assert LiveCounts().n_events == 0


def test_minutes_that_are_read_again_replace_what_was_known_and_immutable_counts_stay():
    counted, minute = CountedMinutes(), NOON // MINUTE
    counted.replace({minute: {"a": [1, 0, 7, 0]}, minute + 1: {"a": [0, 1, 0, 8], "b": [2, 0, 9, 0]}})
    before = counted.since(0)
    counted.replace({minute: {"c": [1, 1, 3, 4]}, minute + 60: {"b": [1, 0, 1, 0]}})
    assert counts_by_sale(before) == {"a": (1, 1), "b": (2, 0)}
    assert counts_by_sale(counted.since(0)) == {"a": (0, 1), "b": (3, 0), "c": (1, 1)}
    counted.replace({minute: {}, minute + 1: {}})
    assert counts_by_sale(counted.since(0)) == {"b": (1, 0)}


def test_counts_from_an_instant_on_begin_with_its_hour():
    counted, minute = CountedMinutes(), NOON // MINUTE
    counted.replace({minute - 1: {"a": [1, 0, 0, 0]}, minute: {"b": [1, 0, 0, 0]}})
    assert counts_by_sale(counted.since(NOON - 1)) == {"a": (1, 0), "b": (1, 0)}
    assert counts_by_sale(counted.since(NOON)) == counts_by_sale(counted.since(NOON + HOUR - 1)) == {"b": (1, 0)}
    assert counts_by_sale(counted.since(NOON + HOUR)) == {}


def test_days_that_are_over_are_forgotten_with_their_sales():
    counted, minute, day = CountedMinutes(), NOON // MINUTE, NOON // DAY
    rows = {"old": [1, 0, 0, 0], "both": [0, 2, 0, 5]}
    counted.replace({minute: rows, minute + 1440: {"new": [3, 0, 4, 0], "both": [4, 0, 4, 0]}})
    counted.keep_days([day + 1])
    counted.replace({minute + 1441: {"newest": [1, 0, 0, 0]}})
    assert counts_by_sale(counted.since(0)) == {"new": (3, 0), "both": (4, 0), "newest": (1, 0)}
    assert set(counted.since(0).sale_ids) == {"new", "both", "newest"}
    counted.keep_days([day])
    assert counted.since(0) == LiveCounts([], [])


def test_counts_stop_at_zero_where_the_event_to_subtract_was_lost():
    counts = {"a": [1, 0, 7, 0]}
    change_minute(counts, {"a": [-2, 1, -9, 5], "b": [-1, 0, -3, 0]})
    assert counts == {"a": [0, 1, 0, 5]}
    change_minute(counts, {"a": [0, -1, 0, -5]})
    assert counts == {}


def test_minute_with_too_many_sales_counts_no_others(monkeypatch):
    monkeypatch.setattr(module, "MAX_SALES", 2)
    counts = {}
    for sale_id in "abca":
        change_minute(counts, {sale_id: [1, 0, 1, 0]})
    assert counts == {"a": [2, 0, 2, 0], "b": [1, 0, 1, 0]}
