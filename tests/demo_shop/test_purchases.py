import numpy as np
import pandas as pd
import pytest

from demo_shop import purchases


@pytest.fixture(scope="module")
def bookings(shop) -> pd.DataFrame:
    """Each purchase with the first and the last visit of the same sale by the same user."""
    visits = shop.events[shop.events["action"] == "view"]
    seen = visits.groupby(["member_id", "offer_id"])["happened_at"].agg(["min", "max"]).reset_index()
    bought = shop.events[shop.events["action"] == "booking"]
    return bought.merge(seen, on=["member_id", "offer_id"], how="left")


def test_every_purchase_follows_a_visit_of_the_same_sale_by_at_least_a_minute(bookings):
    assert (bookings["happened_at"] - bookings["min"] >= pd.Timedelta(minutes=1)).all()
    assert (bookings["happened_at"] > bookings["max"]).all()


def test_purchases_follow_the_first_visit_by_minutes_to_days(bookings):
    wait = bookings["happened_at"] - bookings["min"]
    assert (wait < pd.Timedelta(hours=1)).mean() > 0.4
    assert 0.1 < (wait > pd.Timedelta(hours=12)).mean() < 0.4
    assert (wait > pd.Timedelta(days=1)).any()


def test_purchases_lie_inside_the_window_of_their_sale_and_before_the_end(shop, bookings):
    assert (bookings["starts"] <= bookings["happened_at"]).all()
    assert (bookings["happened_at"] < bookings["ends"]).all()
    assert (bookings["happened_at"] < pd.Timestamp(shop.settings.ends_at)).all()


def test_a_user_buys_a_sale_at_most_once(bookings):
    assert not bookings.duplicated(["member_id", "offer_id"]).any()


def test_only_purchases_have_a_revenue_which_is_the_price_of_one_to_four_guests(shop):
    priced = shop.events.merge(shop.sales[["offer_id", "price_eur"]], on="offer_id", how="left")
    is_booking = priced["action"] == "booking"
    assert priced["amount_eur"].notna().equals(is_booking)
    guests = (priced["amount_eur"] / priced["price_eur"])[is_booking]
    assert sorted(guests.round(9).unique()) == [1, 2, 3, 4]


def test_a_small_share_of_events_is_recorded_late_and_none_after_the_end(shop):
    lateness = shop.events["logged_at"] - shop.events["happened_at"]
    assert (lateness > pd.Timedelta(0)).mean() == pytest.approx(shop.settings.late_share, abs=0.005)
    assert lateness.min() == pd.Timedelta(0)
    assert pd.Timedelta(minutes=20) < lateness[lateness > pd.Timedelta(0)].median() < pd.Timedelta(hours=2)
    assert (shop.events["logged_at"] < pd.Timestamp(shop.settings.ends_at)).all()


def test_a_few_visits_in_a_hundred_lead_to_a_purchase(shop):
    assert 0.03 < shop.summary.purchases / shop.summary.visits < 0.07


def test_nothing_follows_the_first_purchase_of_a_sale():
    happened = pd.DataFrame(
        [
            (1, 7, False),  # kept
            (1, 7, True),  # the first purchase: kept
            (2, 7, False),  # another user: kept
            (1, 7, False),  # after the purchase
            (1, 7, True),  # a second purchase
            (1, 8, False),  # another sale: kept
        ],
        columns=["user", "sale", "is_purchase"],
    )
    assert purchases._until_first_purchase(happened).index.tolist() == [0, 1, 2, 5]


def test_chances_are_shifted_to_the_wanted_mean_and_keep_their_odds_ratios():
    logits = np.array([-3.0, 0.0, 0.5, 2.0])
    chances = purchases._shifted_to_mean(logits, 0.05)
    assert chances.mean() == pytest.approx(0.05)
    assert np.diff(np.log(chances / (1 - chances))) == pytest.approx(np.diff(logits))
