import pytest

from recsys.data_profile.profile import Followed, odd_ids, profile_of
from recsys.instants import DAY, HOUR, to_micros
from tests.helpers.profiles import frames_of
from tests.helpers.small_shop import AS_OF, at, event, sale

NOW = to_micros(AS_OF)
FOREVER = {"closes_at": AS_OF.replace(year=2200, month=1, day=1)}


def profile(sales, events, **photos):
    return profile_of(frames_of(sales, events, **photos), NOW)


def test_days_and_hours_count_events_and_open_sales():
    found = profile(
        [sale("s1", -48, -36), sale("s2", -30, 48), sale("s3", -1000, None, **FOREVER)],
        [
            event("u1", "s1", -47.5),  # 00:30 of the first day
            event("u1", "s1", -47, "purchase"),  # 01:00
            event("u2", "s1", -20, "purchase"),  # 04:00 of the second day, after it closed
            event("u2", "s2", -19.5),
        ],
    )
    assert [f"{day:%Y-%m-%d}" for day in found.days["day"]] == ["2026-02-27", "2026-02-28"]
    assert found.days["visits"].tolist() == [1, 1]
    assert found.days["purchases"].tolist() == [1, 1]
    assert found.days["open_purchases"].tolist() == [1, 0]
    assert found.days["open_events"].tolist() == [2, 1]
    assert found.days["open_sales"].tolist() == [(12 + 6 + 24) / 24, (24 + 24) / 24]
    assert found.hours["purchases"].tolist() == [0, 1, 0, 0, 1] + 19 * [0]
    assert found.hours["visits"].tolist() == [1, 0, 0, 0, 1] + 19 * [0]
    assert found.hours["open_sales"].tolist() == 12 * [(2 + 2) / 2] + 6 * [(1 + 2) / 2] + 6 * [(2 + 2) / 2]
    assert (found.first, found.last) == (NOW - int(47.5 * HOUR), NOW - int(19.5 * HOUR))
    assert (found.events, found.open_events, found.kinds) == (4, 3, {"visit": 2, "purchase": 2})
    assert found.last_days("purchases", 1, NOW) == 1
    assert found.last_days("purchases", 2, NOW - DAY) == 1


def test_users_and_lives_have_quantiles():
    events = [event(f"u{user}", "s1", -user - n / 100) for user in range(10) for n in range(user + 1)]
    events += [
        event("u9", "s1", -30, "purchase"),
        event("u9", "s1", -29, "purchase"),
        event("u8", "s1", -3, "purchase"),
    ]
    events += [event(f"v{user}", "s1", -3) for user in range(90)]  # many with one event
    lives = [3.5] * 6 + [100] * 3 + [200]
    found = profile(
        [*(sale(f"s{n}", 0, hours) for n, hours in enumerate(lives)), sale("s1x", 0, None, **FOREVER)], events
    )
    assert (found.users, found.users_with_two, found.buyers, found.repeat_buyers) == (100, 9, 2, 1)
    assert found.events_per_user == {0.1: 1, 0.5: 1, 0.9: 1, 0.99: 10, 1.0: 12}
    assert {q: life / HOUR for q, life in found.life.items()} == {0.1: 3.5, 0.5: 3.5, 0.9: 100, 0.99: 200, 1.0: 200}
    assert (found.sales, found.sales_with_events, found.sales_that_never_close) == (11, 1, 1)


def test_shop_without_an_event_has_a_profile_too():
    found = profile([sale("s1")], [])
    assert (found.first, found.last, found.events, found.users, len(found.days)) == (None, None, 0, 0, 0)
    assert found.events_per_user == {}


def test_photos_prices_and_attributes_are_counted_by_sale():
    sales = [sale("s1", attributes={"country": "France"}), sale("s2", price=None), sale("s3")]
    found = profile(sales, [], photos={"s3": ["a.jpg", "b.jpg"]})
    assert (found.sales_with_attributes, found.sales_with_prices, found.sales_with_photos) == (1, 2, 1)


def derived(n: int, gap: float = 24) -> tuple[list, list]:
    """Sales from their first event to some hours after their last one; each has two events."""
    hours = [(-900 + 37.1 * number, -890 + 41.3 * number) for number in range(n)]
    sales = [sale(f"s{number:02d}", first, last + gap) for number, (first, last) in enumerate(hours)]
    return sales, [event(f"u{number}", f"s{number:02d}", hour) for number, both in enumerate(hours) for hour in both]


def test_windows_that_are_made_from_the_events_are_found():
    found = profile(*derived(12))
    assert found.closes_follow == Followed(1.0, DAY)
    assert found.opens_follow == Followed(1.0, 0)
    sales, events = derived(12)
    for number in range(5):  # 7 of 12 still follow
        sales[number] = {**sales[number], "closes_at": at(-850 + 50 * number)}
    assert profile(sales, events).closes_follow == Followed(7 / 12, DAY)
    sales[5] = sales[6] = {**sales[6], "closes_at": at(-500)}
    assert profile(derived(9)[0], derived(9)[1]).closes_follow is None  # too few sales to tell


def test_sale_that_is_still_open_says_nothing_of_how_it_will_close():
    sales, events = derived(30)
    still_open = [row for row in sales if row["closes_at"] > AS_OF]
    assert 0 < len(still_open) < 20
    others = [{**row, "closes_at": at(500)} if row in still_open else row for row in sales]
    assert profile(others, events).closes_follow == Followed(1.0, DAY)


def test_busy_sales_of_a_log_without_times_do_not_seem_to_follow_their_events():
    """Each of these sales has events on each of its four days, as any busy sale has."""
    sales = [sale(f"s{n:02d}", -24 * (n + 5), -24 * (n + 1)) for n in range(15)]
    events = [
        event(f"u{user}", f"s{n:02d}", -24 * (n + 5 - day)) for n in range(15) for day in range(4) for user in range(9)
    ]
    busy = profile(sales, events)
    assert not busy.has_times
    assert busy.opens_follow is busy.closes_follow is None
    rare = [row for row in events if row["user_id"] == "u0"]  # one event on each day would be a coincidence
    assert profile(sales, rare).closes_follow == Followed(1.0, DAY)


def test_ids_that_are_no_person_are_those_that_the_rules_found():
    counts = [
        {"rule": {"name": "user_id_usual"}, "broken": 600, "examples": ["'till 7' has 600 of 1,000 events"]},
        {
            "rule": {"name": "user_id_meant"},
            "broken": 1200,
            "examples": ['{"user_id": "-1"}', '{"user_id": "null"}', '{"user_id": "-1"}'],
        },
        {"rule": {"name": "price_valid"}, "broken": 3, "examples": ["{}"]},
    ]
    assert odd_ids(counts) == (
        "'till 7' has 600 of 1,000 events",
        "1,200 events with a placeholder as user_id, such as '-1' or 'null'",
    )
    assert odd_ids([{**count, "broken": 0} for count in counts]) == ()


@pytest.mark.parametrize(
    ("hours", "has_times"), [((-24, -48, -72), False), ((-23, -48, -72), False), ((-23, -48, -72.5), True)]
)
def test_events_at_one_time_of_day_tell_days_only(hours, has_times):
    assert profile([sale("s1", -100)], [event("u1", "s1", hour) for hour in hours]).has_times is has_times
