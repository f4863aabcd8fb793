"""What a shop's tables hold: the numbers that decide how it is configured, from a few small frames."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.data_profile.frames import Photos, ProfileFrames, Repeats
from recsys.data_profile.languages import language_of
from recsys.instants import DAY, HOUR, LATEST
from recsys.wording import plural

QUANTILES = (0.1, 0.5, 0.9, 0.99)
_ODD_IDS = ("user_id_usual", "user_id_meant")
"""The rules of table events that find ids which are no person's."""
_MOST_TITLES = 20_000
_FEWEST_SALES = 10
"""Number of sales below which nothing is said of how windows were made."""
_FEW_EVENTS_PER_DAY = 2


class Followed(NamedTuple):
    """One end of the windows seems to be made from the events: it lies the same time from an event in most sales."""

    share: float
    """Share of the sales compared."""
    gap: int
    """From the first event back to `opens_at`, or from the last event to `closes_at`, microseconds."""


@dataclass(frozen=True)
class DataProfile:
    """What a shop's tables hold before an instant. Instants and durations are in microseconds, days are UTC."""

    as_of: int
    """End of what is known: the instant of the night."""
    kinds: Mapping[str, int]
    """Number of events of each kind."""
    open_events: int
    """Number of events while their sale was open."""
    days: pd.DataFrame
    """One row per day from the first event to the last: day (its midnight in UTC), visits, purchases, open_events and
    open_purchases (those while their sale was open), and open_sales, the mean number over its hours."""
    hours: pd.DataFrame
    """One row per hour of the day in UTC: visits, purchases, and open_sales, the mean number over the days."""
    first: int | None
    last: int | None
    """The instants of the first and the last event; None if there is none."""
    has_times: bool
    """Whether events have times of day, not days alone."""
    users: int
    users_with_two: int
    """Users with two events or more."""
    buyers: int
    repeat_buyers: int
    """Users with two purchases or more."""
    events_per_user: Mapping[float, int]
    """By quantile; 1.0 is the maximum. Empty without users."""
    sales: int
    sales_with_events: int
    sales_that_never_close: int
    sales_with_prices: int
    sales_with_attributes: int
    life: Mapping[float, int]
    """Time from opening to closing of the sales that close, by quantile; empty if none does."""
    opens_follow: Followed | None
    closes_follow: Followed | None
    repeats: Repeats
    sales_with_photos: int
    photos: Photos | None
    """Of a sample of covers; None where the shop has no photo."""
    language: str | None
    """Code of the language of most titles; None where they do not tell."""
    odd_ids: tuple[str, ...]
    """Sentences about ids of users that are no person's."""

    @property
    def events(self) -> int:
        """Number of events."""
        return sum(self.kinds.values())

    def last_days(self, column: str, days: int, until: int) -> int:
        """Return the sum of a column of `days` over some days before an instant."""
        start = pd.Timestamp(until - days * DAY, unit="us", tz="UTC")
        chosen = (self.days["day"] >= start) & (self.days["day"] < pd.Timestamp(until, unit="us", tz="UTC"))
        return int(self.days.loc[chosen, column].sum())


def profile_of(
    frames: ProfileFrames, as_of: int, odd_ids: tuple[str, ...] = (), photos: Photos | None = None
) -> DataProfile:
    """Return the profile of a shop.

    Args:
        frames: Of its tables.
        as_of: The instant of the night, microseconds UTC.
        odd_ids: From `odd_ids`.
        photos: How many of a sample are there; None for a shop without any.
    """
    sales, users, hours = frames.sales, frames.users, frames.hours
    seen = sales[sales["events"] > 0]
    first, last = (int(seen["first_event"].min()), int(seen["last_event"].max())) if len(seen) else (None, None)
    by_hour = _by_hour(hours, sales, first, last)
    closing = sales[sales["closes_at"] < LATEST]
    ended = seen[seen["closes_at"] <= as_of]
    has_times = len(frames.times_of_day) > 2
    return DataProfile(
        as_of=as_of,
        kinds={kind: int(hours.loc[hours["kind"] == kind, "events"].sum()) for kind in ("visit", "purchase")},
        open_events=int(hours["open_events"].sum()),
        days=_by_day(by_hour),
        hours=_by_hour_of_day(by_hour),
        first=first,
        last=last,
        has_times=has_times,
        users=int(users["users"].sum()),
        users_with_two=int(users.loc[users["events"] >= 2, "users"].sum()),
        buyers=int(users.loc[users["purchases"] >= 1, "users"].sum()),
        repeat_buyers=int(users.loc[users["purchases"] >= 2, "users"].sum()),
        events_per_user=_quantiles(users["events"].to_numpy(), users["users"].to_numpy()),
        sales=len(sales),
        sales_with_events=len(seen),
        sales_that_never_close=len(sales) - len(closing),
        sales_with_prices=int(sales["has_price"].sum()),
        sales_with_attributes=int(sales["has_attributes"].sum()),
        life=_quantiles((closing["closes_at"] - closing["opens_at"]).to_numpy(), np.ones(len(closing), np.int64)),
        opens_follow=_followed(seen, seen["first_event"] - seen["opens_at"], has_times),
        closes_follow=_followed(ended, ended["closes_at"] - ended["last_event"], has_times),
        repeats=frames.repeats,
        sales_with_photos=int((sales["photos"] > 0).sum()),
        photos=photos,
        language=language_of(sales["title"].iloc[:_MOST_TITLES]),
        odd_ids=odd_ids,
    )


def odd_ids(rule_counts: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return sentences about user ids that are no person's, from the counts of the rules that find them.

    Args:
        rule_counts: As in the file `rule_counts.json` of a night.
    """
    found = [each for each in rule_counts if each["rule"]["name"] in _ODD_IDS and each["broken"]]
    sentences = []
    for each in found:
        if each["rule"]["name"] == "user_id_usual":
            sentences += each["examples"]
        else:
            names = dict.fromkeys(repr(json.loads(example)["user_id"]) for example in each["examples"])
            placeholders = f"a placeholder as user_id, such as {' or '.join(names)}"
            sentences.append(f"{plural(each['broken'], 'event')} with {placeholders}")
    return tuple(sentences)


def _by_hour(hours: pd.DataFrame, sales: pd.DataFrame, first: int | None, last: int | None) -> pd.DataFrame:
    """Return one row per hour of the days from the first event to the last, also of hours without events."""
    start, end = (first // DAY * DAY, last // DAY * DAY + DAY) if first is not None and last is not None else (0, 0)
    every_hour = np.arange(start, end, HOUR)
    opens, closes = np.sort(sales["opens_at"].to_numpy(np.int64)), np.sort(sales["closes_at"].to_numpy(np.int64))
    is_open = np.searchsorted(opens, every_hour, side="right") - np.searchsorted(closes, every_hour, side="right")
    table = pd.DataFrame({"hour": every_hour, "open_sales": is_open})
    for name, column, kinds in (
        ("visits", "events", ("visit",)),
        ("purchases", "events", ("purchase",)),
        ("open_events", "open_events", ("visit", "purchase")),
        ("open_purchases", "open_events", ("purchase",)),
    ):
        found = hours[hours["kind"].isin(kinds)].groupby("hour")[column].sum()
        table[name] = found.reindex(every_hour, fill_value=0).to_numpy(np.int64)
    return table


_SUMS = {name: (name, "sum") for name in ("visits", "purchases", "open_events", "open_purchases")}


def _by_day(by_hour: pd.DataFrame) -> pd.DataFrame:
    days = by_hour.groupby(by_hour["hour"] // DAY * DAY).agg(**_SUMS, open_sales=("open_sales", "mean"))
    days.insert(0, "day", pd.to_datetime(days.index, unit="us", utc=True))
    return days.reset_index(drop=True)


def _by_hour_of_day(by_hour: pd.DataFrame) -> pd.DataFrame:
    sums = {name: _SUMS[name] for name in ("visits", "purchases")}
    hours = by_hour.groupby(by_hour["hour"] % DAY // HOUR).agg(**sums, open_sales=("open_sales", "mean"))
    return hours.rename_axis("hour").reset_index()


def _quantiles(values: NDArray[np.int64], times: NDArray[np.int64]) -> dict[float, int]:
    """Return quantiles of values that occur some times each: the smallest value with at least that share below."""
    if not len(values):
        return {}
    order = np.argsort(values)
    counted = np.cumsum(times[order])
    return {q: int(values[order][np.searchsorted(counted, q * counted[-1])]) for q in (*QUANTILES, 1.0)}


def _followed(sales: pd.DataFrame, gaps: pd.Series, has_times: bool) -> Followed | None:
    """Return the gap that most sales have between an event and an end of their window; None where none is frequent.

    Sales with few events tell: a sale with many has one right after it opens, one right before it closes and, where
    events have no times, one on each day.
    """
    few = gaps[sales["events"] < _FEW_EVENTS_PER_DAY * (sales["closes_at"] - sales["opens_at"]) / DAY]
    compared = few if len(few) >= _FEWEST_SALES or not has_times else gaps
    if len(compared) < _FEWEST_SALES:
        return None
    counts = compared.value_counts()
    share = float(counts.iloc[0]) / len(compared)
    return Followed(share, int(counts.index[0])) if share > 0.5 else None
