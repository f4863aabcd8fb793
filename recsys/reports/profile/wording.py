"""A profile in words: groups of labels and values, the same on a terminal, in the report and in a notebook."""

from collections.abc import Mapping

import pandas as pd

from recsys.data_profile.languages import NAMES
from recsys.data_profile.profile import QUANTILES, DataProfile
from recsys.instants import DAY, HOUR, MINUTE, from_micros
from recsys.reports.wording import number, percent
from recsys.wording import plural

Facts = Mapping[str, str]
"""Values by label."""


def facts(profile: DataProfile) -> Mapping[str, Facts]:
    """Return the facts of a profile by group: events, sales, users."""
    return {"Events": _of_events(profile), "Sales": _of_sales(profile), "Users": _of_users(profile)}


def _of_events(profile: DataProfile) -> Facts:
    if profile.first is None or profile.last is None:
        return {"events": "none"}
    days = profile.days
    shares = ", ".join(f"{plural(n, kind)} ({share(n, profile.events)})" for kind, n in profile.kinds.items())
    soon = f"{profile.repeats.soon:,} within {plural(profile.repeats.hours, 'hour')}"
    outside, again = profile.events - profile.open_events, profile.repeats.all
    bought = days.loc[days["open_sales"] > 0, "open_purchases"]
    return {
        "first and last": f"{_instant(profile.first)} to {_instant(profile.last)}, {plural(len(days), 'day')}",
        "events": shares,
        **{f"{name} per day": _typical(days[name]) for name in ("visits", "purchases") if days[name].any()},
        "purchases of open sales": f"{int(bought.sum()):,}, {number(bought.mean())} per day with an open sale",
        "outside their sale's window": f"{plural(outside, 'event')} ({share(outside, profile.events)})",
        "bought again": f"{plural(again, 'purchase')} ({share(again, profile.kinds['purchase'])}) of a sale that the "
        f"user had bought in an earlier session, {soon}",
    }


def _of_sales(profile: DataProfile) -> Facts:
    found = {"sales": f"{profile.sales:,}, {profile.sales_with_events:,} of them with an event"}
    if len(profile.days):
        hours = profile.hours["open_sales"]
        fewest, most = number(hours.min()), number(hours.max())
        found["open, by day"] = _typical(profile.days["open_sales"])
        found["open, by hour"] = (
            f"{fewest} at all hours"
            if fewest == most
            else f"{fewest} at {hours.idxmin()}:00 UTC to {most} at {hours.idxmax()}:00, means over the days"
        )
    if profile.life:
        found["life"] = ", ".join(f"{span(profile.life[q])} ({_quantile(q)})" for q in (*QUANTILES, 1.0))
    if profile.sales_that_never_close:
        found["never close"] = f"{profile.sales_that_never_close:,}"
    found["with a price"] = share(profile.sales_with_prices, profile.sales)
    found["with attributes"] = share(profile.sales_with_attributes, profile.sales)
    found["with photos"] = share(profile.sales_with_photos, profile.sales)
    if profile.photos:
        found["photos that are there"] = f"{profile.photos.readable:,} of {profile.photos.tried:,} that were tried"
    if profile.language:
        found["titles"] = f"mostly {NAMES[profile.language]}"
    return found


def _of_users(profile: DataProfile) -> Facts:
    if not profile.users:
        return {"users": "none"}
    per_user = ", ".join(f"{profile.events_per_user[q]:,} ({_quantile(q)})" for q in (*QUANTILES, 1.0))
    return {
        "users": f"{profile.users:,}",
        "with two events or more": f"{profile.users_with_two:,} ({share(profile.users_with_two, profile.users)})",
        "with a purchase": f"{profile.buyers:,} ({share(profile.buyers, profile.users)})",
        "with two purchases or more": f"{profile.repeat_buyers:,} ({share(profile.repeat_buyers, profile.users)})",
        "events per user": per_user,
    }


def share(part: int, whole: int) -> str:
    """Write a share in percent; 0 of nothing."""
    return percent(part / whole if whole else 0.0)


def span(duration: int) -> str:
    """Write a duration in microseconds: "45 min", "3.5 hours", "4 days"."""
    if duration < HOUR:
        return f"{duration // MINUTE} min"
    unit, noun = (HOUR, "hour") if duration < 2 * DAY else (DAY, "day")
    return plural(float(f"{duration / unit:.3g}"), noun)


def _typical(values: pd.Series) -> str:
    low, middle, high = values.quantile([0.1, 0.5, 0.9])
    return f"{number(middle)} at the median, {number(low)} to {number(high)} on four days of five"


def _quantile(q: float) -> str:
    return {0.5: "median", 1.0: "maximum"}.get(q, f"{q:.0%}")


def _instant(micros: int) -> str:
    return f"{from_micros(micros):%Y-%m-%d %H:%M} UTC"
