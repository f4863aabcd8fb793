import pytest

from recsys.data_profile.frames import Photos
from recsys.data_profile.profile import profile_of
from recsys.instants import DAY, HOUR, MINUTE, to_micros
from recsys.reports.profile.wording import facts, span
from tests.helpers.profiles import frames_of
from tests.helpers.small_shop import AS_OF, event, sale


def test_facts_say_what_a_shop_holds():
    events = [
        event("u1", "s1", -47),
        event("u1", "s1", -46, "purchase"),
        event("u2", "s2", -1),
        event("u2", "s1", -30, "purchase"),
    ]
    frames = frames_of([sale("s1", -48, -36), sale("s2", -30, 48, price=None)], events, {"s2": ["a.jpg"]})
    found = facts(profile_of(frames, to_micros(AS_OF), photos=Photos(1, 0)))
    assert found["Events"] == {
        "first and last": "2026-02-27 01:00 UTC to 2026-02-28 23:00 UTC, 2 days",
        "events": "2 visits (50%), 2 purchases (50%)",
        "visits per day": "1 at the median, 1 to 1 on four days of five",
        "purchases per day": "1 at the median, 0.2 to 1.8 on four days of five",
        "purchases of open sales": "1, 0.5 per day with an open sale",
        "outside their sale's window": "1 event (25%)",
        "bought again": "0 purchases (0%) of a sale that the user had bought in an earlier session, 0 within 72 hours",
    }
    assert found["Sales"]["sales"] == "2, 2 of them with an event"
    assert found["Sales"]["open, by hour"] == "0.5 at 12:00 UTC to 1 at 0:00, means over the days"
    assert (
        found["Sales"]["life"]
        == "12 hours (10%), 12 hours (median), 3.25 days (90%), 3.25 days (99%), 3.25 days (maximum)"
    )
    assert found["Sales"]["with a price"] == "50%"
    assert found["Sales"]["photos that are there"] == "0 of 1 that were tried"
    assert found["Users"]["with two events or more"] == "2 (100%)"
    assert found["Users"]["events per user"] == "2 (10%), 2 (median), 2 (90%), 2 (99%), 2 (maximum)"


def test_shop_without_an_event_has_facts():
    found = facts(profile_of(frames_of([sale("s1")], []), to_micros(AS_OF)))
    assert (found["Events"], found["Users"]) == ({"events": "none"}, {"users": "none"})


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (45 * MINUTE, "45 min"),
        (int(3.5 * HOUR), "3.5 hours"),
        (HOUR, "1 hour"),
        (47 * HOUR, "47 hours"),
        (90 * DAY, "90 days"),
        (int(373.1 * DAY), "373 days"),
    ],
)
def test_spans_are_written_in_the_unit_that_fits(duration, words):
    assert span(duration) == words
