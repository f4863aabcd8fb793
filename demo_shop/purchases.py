"""Visits → events: purchases at once or after a return visit, and when the shop records them."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demo_shop.rhythm import DAY, HOUR, Seconds

_PURCHASE_SHARPNESS = 0.6
_AT_ONCE_SHARE = 0.65
_COMES_BACK_SHARE = 0.08
_SAME_DAY_SHARE = 0.4
_MEDIAN_LATENESS = 40 * 60


def events(
    rng: np.random.Generator,
    visits: pd.DataFrame,
    users: pd.DataFrame,
    sales: pd.DataFrame,
    ends_at: int,
    *,
    purchases_per_visit: float,
    late_share: float,
) -> pd.DataFrame:
    """Return all events: the visits, the return visits of users who come back, and the purchases.

    Returns:
        One row per event, in order of time: user and sale (indices), is_purchase, occurred_at and recorded_at (seconds
        since 1970, before `ends_at`), revenue (euros; missing for a visit). A purchase follows a visit of the same
        sale; a user buys a sale at most once and has no later events of it.
    """
    visitor = users.iloc[visits["user"]].reset_index(drop=True)
    logits = _PURCHASE_SHARPNESS * visits["utility"] + visitor["propensity"]
    chances = _shifted_to_mean(logits.to_numpy(), purchases_per_visit)
    buys = rng.random(len(visits)) < chances
    at_once = rng.random(len(visits)) < _AT_ONCE_SHARE
    comes_back = np.where(buys, ~at_once, rng.random(len(visits)) < _COMES_BACK_SHARE) & ~visitor["one_time"]
    returns = _return_visits(rng, visits[comes_back])

    bought = pd.concat([visits[buys & at_once], returns[buys[comes_back]]])
    bought = bought.assign(occurred_at=bought["occurred_at"] + _seconds_until_purchase(rng, len(bought)))
    looked = pd.concat([visits, returns]).assign(is_purchase=False)
    happened = pd.concat([looked, bought.assign(is_purchase=True)], ignore_index=True)
    closes_at = sales["closes_at"].to_numpy()[happened["sale"]]
    happened = happened[happened["occurred_at"] < np.minimum(closes_at, ends_at)]
    happened = happened.drop_duplicates(["user", "sale", "is_purchase", "occurred_at"])
    happened = _until_first_purchase(happened.sort_values(["occurred_at", "user", "sale"], kind="stable"))

    guests = rng.choice([1, 2, 3, 4], len(happened), p=[0.1, 0.6, 0.15, 0.15])
    paid = sales["price"].to_numpy()[happened["sale"]] * guests
    return happened.assign(
        recorded_at=_recorded_at(rng, happened["occurred_at"].to_numpy(), ends_at, late_share),
        revenue=np.where(happened["is_purchase"], paid, np.nan),
    ).reset_index(drop=True)


def _shifted_to_mean(logits: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Return probabilities of the given mean, by adding a constant to all logits (found by bisection)."""
    low, high = -40.0, 40.0
    for _ in range(50):
        middle = (low + high) / 2
        too_low = (1 / (1 + np.exp(-logits - middle))).mean() < mean
        low, high = (middle, high) if too_low else (low, middle)
    return 1 / (1 + np.exp(-logits - low))


def _return_visits(rng: np.random.Generator, visits: pd.DataFrame) -> pd.DataFrame:
    """Return a second visit of each sale, some hours later or at about the same hour of one of the next days."""
    hours_later = HOUR + rng.exponential(2 * HOUR, len(visits))
    days_later = rng.geometric(0.7, len(visits)) * DAY + rng.normal(0, HOUR, len(visits))
    delay = np.where(rng.random(len(visits)) < _SAME_DAY_SHARE, hours_later, days_later)
    return visits.assign(occurred_at=visits["occurred_at"] + np.maximum(delay, HOUR).astype(np.int64))


def _seconds_until_purchase(rng: np.random.Generator, n_purchases: int) -> Seconds:
    """Draw the seconds from visit to purchase: 1 to 60 minutes, with a median of 8 minutes."""
    return np.clip(rng.lognormal(np.log(480), 0.8, n_purchases), 60, HOUR).astype(np.int64)


def _until_first_purchase(happened: pd.DataFrame) -> pd.DataFrame:
    purchases_so_far = happened.groupby(["user", "sale"])["is_purchase"].cumsum()
    return happened[purchases_so_far - happened["is_purchase"] == 0]


def _recorded_at(rng: np.random.Generator, occurred_at: Seconds, ends_at: int, late_share: float) -> Seconds:
    """Return when each event was recorded: a share of them late, unless that would be after the end."""
    lateness = np.maximum(rng.lognormal(np.log(_MEDIAN_LATENESS), 1.0, len(occurred_at)), 60).astype(np.int64)
    late = (rng.random(len(occurred_at)) < late_share) & (occurred_at + lateness < ends_at)
    return occurred_at + lateness * late
