from dataclasses import replace

import pandas as pd
import pytest

from recsys.config.settings import Settings, known_policies
from recsys.data_profile.advice import Advice, advise
from recsys.data_profile.frames import Repeats
from recsys.data_profile.profile import DataProfile, Followed, profile_of
from recsys.instants import DAY, HOUR, to_micros
from tests.helpers.profiles import frames_of
from tests.helpers.small_shop import AS_OF, event, sale

NOW = to_micros(AS_OF)
FEATURES = len(known_policies(Settings.model_validate({"folder": "x", "source": {"sql": "x", "raw": {}}}))) - 1 - 2
"""Features of a shop without photos, by default."""


def shop(days: int = 120, purchases: int = 100, visits: int = 1000, **changes: object) -> DataProfile:
    """Return the profile of a shop with so many purchases and visits per day, all of open sales, until AS_OF."""
    columns = {"visits": visits, "purchases": purchases, "open_purchases": purchases, "open_events": visits + purchases}
    day = pd.date_range(end=AS_OF - pd.Timedelta(days=1), periods=days)
    made = {
        "days": pd.DataFrame({"day": day, **columns, "open_sales": 20.0}),
        "kinds": {"visit": visits * days, "purchase": purchases * days},
        "open_events": (visits + purchases) * days,
        "first": NOW - days * DAY,
        "last": NOW - HOUR,
        "has_times": True,
        "users": 1000,
        "users_with_two": 800,
        "buyers": 300,
        "sales_with_attributes": 1,
    }
    return replace(profile_of(frames_of([sale("s1")], [event("u1", "s1", -1)]), NOW), **{**made, **changes})


def advised(profile: DataProfile, today: int = NOW, **changes: object) -> Advice:
    settings = Settings.model_validate({"folder": "x", "source": {"sql": "x", "raw": {}}, **changes})
    return advise(profile, settings, today)


def proposed(profile: DataProfile, today: int = NOW, **changes: object) -> dict[str, str]:
    return {each.key: each.value for each in advised(profile, today, **changes).proposals}


def short_of(profile: DataProfile, **changes: object) -> dict[str, str]:
    return dict(advised(profile, **changes).shortages)


def test_shop_of_today_with_enough_data_gets_a_window_for_a_backtest_alone():
    assert advised(shop()).cautions == ()
    assert proposed(shop()) == {"recsys backtest": "--from 2026-02-19 --to 2026-02-28"}  # 10 days of 100 purchases
    assert short_of(shop()) == {"themes of photos": "no sale has a photo"}


def test_data_of_the_past_get_the_day_after_the_last_event_and_a_replay():
    past, today = shop(as_of=NOW + 30 * DAY), NOW + 30 * DAY
    assert proposed(past, today) == {
        "as_of": "2026-03-01T00:00:00Z",
        "serving.clock": "replay",
        "recsys backtest": "--from 2026-02-19 --to 2026-02-28",
    }
    assert "serving.clock" not in proposed(past, today, serving={"clock": "replay"})
    configured = proposed(shop(), today)  # its as_of is the day after the last event already
    assert "as_of" not in configured
    assert configured["serving.clock"] == "replay"
    assert "as_of" not in proposed(shop(as_of=NOW + DAY - 1), NOW)  # a log may come some hours late


def test_training_days_are_the_fewest_with_ten_purchases_per_feature():
    rare = shop(purchases=5)
    needed = 10 * FEATURES
    days = -(-needed // 5)
    assert 14 < days < 60
    found = next(each for each in advised(rare).proposals if each.key == "meta_model.days")
    assert found.value == str(days)
    assert (
        f"{5 * days:,} purchases of open sales before as_of, at least 10 for each of {FEATURES} features"
        in found.reason
    )
    assert "the last 14 days have 70" in found.reason
    assert "meta_model.days" not in proposed(rare, meta_model={"days": days})
    assert "meta_model.days" in proposed(rare, meta_model={"days": days - 1})


def test_training_days_are_at_most_half_of_the_log():
    rare = shop(days=40, purchases=1)
    found = next(each for each in advised(rare).proposals if each.key == "meta_model.days")
    assert (found.value, "still fewer than" in found.reason) == ("20", True)
    assert short_of(rare)["certainty that the meta-model ranks better than popularity"] == (
        f"20 purchases of open sales in the 20 days before as_of, fewer than 10 for each of {FEATURES} features"
    )
    assert "meta_model.days" not in proposed(shop(days=20, purchases=1))  # half of it are fewer than configured


def test_purchases_before_the_longer_window_only_change_nothing():
    none_earlier = shop(purchases=1)
    none_earlier.days.loc[none_earlier.days.index < 120 - 14, "open_purchases"] = 0
    assert "meta_model.days" not in proposed(none_earlier)


def test_too_few_purchases_leave_no_meta_model():
    last = shop(purchases=0)
    last.days.loc[last.days.index[-3:], "open_purchases"] = 3
    why = short_of(last)["a meta-model: pages are ranked by popularity"]
    assert why == "9 purchases of open sales in the 14 days before as_of, fewer than 10 (meta_model.min_purchases)"


@pytest.mark.parametrize(
    ("days", "purchases", "window"),
    [
        (120, 1000, "--from 2026-02-22 --to 2026-02-28"),  # a week has enough
        (120, 10, "--from 2026-02-01 --to 2026-02-28"),  # four weeks at most
        (14 + 60 + 9, 100, "--from 2026-02-20 --to 2026-02-28"),  # what training days and towers leave: 9 days
        (14 + 60 + 6, 100, "--from 2026-02-19 --to 2026-02-28"),  # too few days for the towers: they are left out
        (14 + 7 + 1, 100, "--from 2026-02-28 --to 2026-02-28"),
    ],
)
def test_window_of_a_backtest_leaves_days_to_learn_from_before_it(days, purchases, window):
    assert proposed(shop(days, purchases), meta_model={"min_purchases": 1, "days": 14})["recsys backtest"] == window


def test_log_that_is_too_short_for_a_backtest_is_named():
    found = short_of(shop(days=21))
    assert found["a backtest"] == (
        "the log has 21 days, and it needs 14 training days, a week before them, and the days to measure"
    )
    assert short_of(shop(purchases=0))["a backtest"] == "there is no purchase"
    assert (
        short_of(shop(purchases=3))["a difference between two policies"] == "84 purchases in the window of a backtest"
    )


def test_towers_need_events_on_both_parts_of_their_days():
    found = short_of(shop(purchases=50, visits=90))  # 140 per day: 980 in a week
    assert found["towers"].startswith(
        "980 events of open sales in the 53 days to learn from or the 7 after them, before"
    )
    assert "towers" not in short_of(shop(purchases=50, visits=93))  # 143 per day: 1,001
    without = {"recommenders": {"towers": {"enabled": False}}}
    assert "towers" not in short_of(shop(purchases=50, visits=90), **without)


def test_what_is_not_there_or_rare_is_named():
    assert "there is no visit" in short_of(shop(visits=0)).values()
    assert short_of(shop(sales_with_attributes=0))[
        "likeness of sales that nobody has visited yet, but for words and prices"
    ]
    few = short_of(shop(buyers=72, users_with_two=99))
    assert few["what users buy together and again"] == "72 users with a purchase, fewer than 100"
    assert few["what users look at together"] == "99 users with two events or more, fewer than 100"
    assert "themes of photos" not in short_of(shop(sales_with_photos=1))


def test_feature_that_windows_made_from_events_would_reveal_is_left_out():
    derived = shop(closes_follow=Followed(0.97, DAY), opens_follow=Followed(1.0, 0))
    assert proposed(derived)["recommenders.without"] == "[hours_left]"
    assert proposed(derived, recommenders={"without": ["towers"]})["recommenders.without"] == "[towers, hours_left]"
    assert "recommenders.without" not in proposed(derived, recommenders={"without": ["hours_left"]})
    closes, opens = advised(derived).cautions
    assert closes.startswith("97% of the sales close exactly 24 hours after their last event")
    assert opens.startswith("100% of the sales open exactly at their first event")
    assert "recommenders.without" not in proposed(shop(opens_follow=Followed(1.0, 0)))  # an opening lies in the past


def test_events_that_tell_days_only_are_ranked_by_the_night():
    dates = shop(has_times=False)
    assert proposed(dates)["serving.ranking"] == "snapshot"
    assert any("days only" in each for each in advised(dates).cautions)
    assert "serving.ranking" not in proposed(dates, serving={"ranking": "snapshot"})


def test_sales_of_a_few_hours_are_ranked_live():
    news, night = {0.5: int(3.5 * HOUR)}, {"serving": {"ranking": "snapshot"}}
    assert proposed(shop(life=news), **night)["serving.ranking"] == "live"
    assert "serving.ranking" not in proposed(shop(life={0.5: 3 * DAY}), **night)
    assert "serving.ranking" not in proposed(shop(life=news))


def test_shop_whose_users_soon_buy_the_same_sale_again_shows_it_again():
    again = shop(repeats=Repeats(3000, 601, 72))  # of 12,000 purchases
    assert proposed(again)["serving.pages.just_bought_hours"] == "null"
    assert "serving.pages.just_bought_hours" not in proposed(shop(repeats=Repeats(3000, 600, 72)))
    assert "serving.pages.just_bought_hours" not in proposed(again, serving={"pages": {"just_bought_hours": None}})


def test_reasons_speak_the_language_of_the_titles_if_there_are_any_in_it():
    assert proposed(shop(language="fr"))["serving.pages.language"] == "fr"
    assert "serving.pages.language" not in proposed(shop(language="it"))
    assert "serving.pages.language" not in proposed(shop(language="fr"), serving={"pages": {"language": "de"}})


def test_what_looks_wrong_is_named():
    silent = shop(odd_ids=("'anonymous' has 70,000 of 132,000 events",), open_events=130_000)
    silent.days.loc[[5, 9], ["visits", "purchases"]] = 0
    ids, outside, days = advised(silent).cautions
    assert ids == "'anonymous' has 70,000 of 132,000 events: no person; leave it out in events.sql"
    assert outside.startswith("2,000 of 132,000 events are outside their sale's window")
    assert days == "2 days without an event, such as 2025-11-06: a part of the log may be missing"
    assert advised(shop(open_events=131_000)).cautions == ()


def test_shop_that_is_closed_on_saturdays_misses_no_part_of_its_log():
    closed = shop()
    saturdays = closed.days.index[closed.days["day"].dt.dayofweek == 5]
    closed.days.loc[saturdays, ["visits", "purchases"]] = 0
    assert advised(closed).cautions == ()
    closed.days.loc[saturdays[0] + 1, ["visits", "purchases"]] = 0
    assert advised(closed).cautions == ("1 day without an event, such as 2025-11-02: a part of the log may be missing",)


def test_shop_without_an_event_gets_no_proposal():
    empty = profile_of(frames_of([sale("s1")], []), NOW)
    found = advised(empty)
    assert found.proposals == found.cautions == ()
    assert {"a backtest", "towers", "a meta-model: pages are ranked by popularity"} <= dict(found.shortages).keys()
