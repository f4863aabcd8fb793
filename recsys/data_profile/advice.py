"""What a profile suggests for the configuration, what to look at first, and what the data is too little for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from recsys.config.settings import Settings, known_policies
from recsys.data_profile.languages import NAMES
from recsys.data_profile.profile import DataProfile
from recsys.instants import DAY, HOUR, from_micros
from recsys.meta_model import PURCHASES_PER_FEATURE
from recsys.recommenders import OVER_PHOTOS
from recsys.recommenders.towers import TOWERS
from recsys.wording import plural

_REPEATS_OFTEN = 0.05
_OUTSIDE_OFTEN = 0.01
_SHORT_LIFE = 12 * HOUR
_ENOUGH_PURCHASES = 1000
_FEWEST_PURCHASES = 100
_FEWEST_USERS = 100
"""Fewer users or purchases than these say little about a recommender, or about the difference of two."""
_WEEK, _MOST_DAYS = 7, 28
"""A window of a backtest has each day of the week, and no more days than are measured in reasonable time."""
_WRITTEN = ("fr", "de", "es")
"""Languages in which the service has reasons, besides English."""


class Proposal(NamedTuple):
    """A change of the configuration, or the options of a command."""

    key: str
    value: str
    reason: str


class Shortage(NamedTuple):
    """What there is too little data for."""

    what: str
    why: str


@dataclass(frozen=True)
class Advice:
    """What a profile suggests."""

    cautions: tuple[str, ...]
    """What may be wrong in the data, or in the SQL that selects it."""
    proposals: tuple[Proposal, ...]
    shortages: tuple[Shortage, ...]


def advise(profile: DataProfile, settings: Settings, today: int) -> Advice:
    """Return what a shop's profile suggests beside its present configuration.

    Args:
        profile: Of the validated tables.
        settings: The present configuration.
        today: Today's midnight UTC, microseconds.
    """
    plan = _Plan(profile, settings)
    return Advice(tuple(_cautions(profile)), tuple(_proposals(plan, today)), tuple(_shortages(plan)))


class _Plan:
    """The instants and numbers of days that follow from a profile."""

    def __init__(self, profile: DataProfile, settings: Settings):
        self.profile, self.settings = profile, settings
        day_after = profile.as_of if profile.last is None else profile.last // DAY * DAY + DAY
        self.ended = day_after + DAY <= profile.as_of
        self.as_of = day_after if self.ended else profile.as_of
        self.log_days = 0 if profile.first is None else -(-(self.as_of - profile.first) // DAY)
        features = set(known_policies(settings)[1:])
        self.features = len(features if profile.sales_with_photos else features.difference(OVER_PHOTOS))
        self.enough = max(settings.meta_model.min_purchases, PURCHASES_PER_FEATURE * self.features)
        self.days = self._training_days()
        self.purchases = self.purchases_of(self.days)
        self.window = self._window()

    def purchases_of(self, days: int) -> int:
        """Return the number of purchases of open sales in the last days."""
        return self.profile.last_days("open_purchases", days, self.as_of)

    def _training_days(self) -> int:
        """Return the configured days if their purchases are enough; otherwise the fewest days with enough, or half of
        the log, since each training day needs days before it to be learnt from."""
        configured, most = self.settings.meta_model.days, self.log_days // 2
        if self.purchases_of(configured) >= self.enough or most <= configured:
            return configured
        days = next((days for days in range(configured, most) if self.purchases_of(days) >= self.enough), most)
        return days if self.purchases_of(days) > self.purchases_of(configured) else configured

    @property
    def uses_towers(self) -> bool:
        """Whether towers are trained, by the configuration."""
        settings = self.settings.recommenders
        return settings.towers.enabled and TOWERS not in settings.without

    def _window(self) -> int | None:
        """Return the number of days of a backtest at the end of the log; None if it is too short for one.

        Before it lie the training days, and before these what the towers learn from if the log is long enough for that,
        otherwise a week. Of the days left, a week or the fewest with enough purchases.
        """
        spare = self.log_days - self.days
        of_towers = self.settings.recommenders.towers.days if self.uses_towers else 0
        before = max(_WEEK, of_towers if spare - of_towers >= _WEEK else 0)
        most = min(spare - before, _MOST_DAYS)
        if most < 1 or not self.purchases_of(most):
            return None
        return next((days for days in range(_WEEK, most) if self.purchases_of(days) >= _ENOUGH_PURCHASES), most)


def _cautions(profile: DataProfile) -> Iterator[str]:
    for sentence in profile.odd_ids:
        yield f"{sentence}: no person; leave it out in events.sql"
    outside = profile.events - profile.open_events
    if outside > _OUTSIDE_OFTEN * profile.events:
        yield (
            f"{outside:,} of {profile.events:,} events are outside their sale's window: they tell of tastes, but of no "
            "popularity, and are no training examples; compare the zones of opens_at, closes_at and occurred_at"
        )
    silent = _silent_days(profile)
    if len(silent):
        missing = f"{plural(len(silent), 'day')} without an event, such as {silent.iloc[0]:%Y-%m-%d}"
        yield f"{missing}: a part of the log may be missing"
    if profile.closes_follow:
        yield (
            f"{profile.closes_follow.share:.0%} of the sales close {_exactly(profile.closes_follow.gap, 'after')} "
            "their last event: a window that is made from the events looks ahead, so that a backtest looks better than "
            "pages can be; take closes_at from the shop's own tables, if they have it"
        )
    if profile.opens_follow:
        yield (
            f"{profile.opens_follow.share:.0%} of the sales open {_exactly(profile.opens_follow.gap, 'before')} their "
            "first event: a sale that nobody wants yet is not open then; take opens_at from the shop's own tables, if "
            "they have it"
        )
    if profile.events and not profile.has_times:
        yield "events tell days only: what happened before a page of the same day is not known"


def _proposals(plan: "_Plan", today: int) -> Iterator[Proposal]:
    profile, settings = plan.profile, plan.settings
    if plan.ended and profile.last is not None:
        reason = f"the last event is of {from_micros(profile.last):%Y-%m-%d}, and these are data of the past"
        yield Proposal("as_of", f"{from_micros(plan.as_of):%Y-%m-%dT%H:%M:%SZ}", reason)
    if plan.as_of + DAY < today and settings.serving.clock == "system":
        reason = "the service then answers as on the day after as_of, while the sales of that day are open"
        yield Proposal("serving.clock", "replay", reason)
    if plan.days != settings.meta_model.days:
        yield Proposal("meta_model.days", str(plan.days), _why_days(plan))
    left_out = settings.recommenders.without
    if profile.closes_follow and "hours_left" not in left_out:
        reason = "closes_at follows the last event, so that hours_left would tell how long a sale is still wanted"
        yield Proposal("recommenders.without", f"[{', '.join([*left_out, 'hours_left'])}]", reason)
    if profile.events and not profile.has_times and settings.serving.ranking == "live":
        reason = "events tell days only, so that a model cannot learn what the hours before a page are worth"
        yield Proposal("serving.ranking", "snapshot", reason)
    if profile.has_times and settings.serving.ranking == "snapshot" and 0 < profile.life.get(0.5, 0) < _SHORT_LIFE:
        reason = f"half of the sales live {profile.life[0.5] / HOUR:.1f} hours or less, and open after the night"
        yield Proposal("serving.ranking", "live", reason)
    often = _REPEATS_OFTEN * profile.kinds["purchase"]
    if settings.serving.pages.just_bought_hours is not None and profile.repeats.soon > often:
        reason = (
            f"{profile.repeats.soon:,} of {profile.kinds['purchase']:,} purchases are of a sale that the user "
            f"had bought in an earlier session within {profile.repeats.hours:g} hours"
        )
        yield Proposal("serving.pages.just_bought_hours", "null", reason)
    if profile.language in _WRITTEN and settings.serving.pages.language == "en":
        reason = f"titles are mostly {NAMES[profile.language]}, and reasons on pages are English"
        yield Proposal("serving.pages.language", profile.language, reason)
    if plan.window is not None:
        first, last = (from_micros(plan.as_of - days * DAY) for days in (plan.window, 1))
        reason = (
            f"{plan.purchases_of(plan.window):,} purchases of open sales, after {plural(plan.days, 'training day')} "
            f"and {plural(plan.log_days - plan.days - plan.window, 'day')} to learn features from"
        )
        yield Proposal("recsys backtest", f"--from {first:%Y-%m-%d} --to {last:%Y-%m-%d}", reason)


def _why_days(plan: "_Plan") -> str:
    configured = plan.settings.meta_model.days
    comparison = "at least" if plan.purchases >= plan.enough else "still fewer than"
    return (
        f"{plan.purchases:,} purchases of open sales before as_of, {comparison} {PURCHASES_PER_FEATURE} for each of "
        f"{plan.features} features; the last {plural(configured, 'day')} have {plan.purchases_of(configured):,}"
    )


def _shortages(plan: "_Plan") -> Iterator[Shortage]:
    profile, settings = plan.profile, plan.settings
    bought = f"{plural(plan.purchases, 'purchase')} of open sales in the {plural(plan.days, 'day')} before as_of"
    if plan.purchases < settings.meta_model.min_purchases:
        why = f"{bought}, fewer than {settings.meta_model.min_purchases:,} (meta_model.min_purchases)"
        yield Shortage("a meta-model: pages are ranked by popularity", why)
    elif plan.purchases < plan.enough:
        why = f"{bought}, fewer than {PURCHASES_PER_FEATURE} for each of {plan.features} features"
        yield Shortage("certainty that the meta-model ranks better than popularity", why)
    if plan.uses_towers and (why_no_towers := _why_no_towers(plan)):
        yield Shortage("towers", why_no_towers)
    if not profile.kinds["purchase"]:
        yield Shortage("a backtest", "there is no purchase")
    elif plan.window is None:
        needed = f"{plural(plan.days, 'training day')}, a week before them, and the days to measure"
        yield Shortage("a backtest", f"the log has {plural(plan.log_days, 'day')}, and it needs {needed}")
    elif (measured := plan.purchases_of(plan.window)) < _FEWEST_PURCHASES:
        yield Shortage(
            "a difference between two policies", f"{plural(measured, 'purchase')} in the window of a backtest"
        )
    for what, number, why in (
        ("what users buy together and again", profile.buyers, "with a purchase"),
        ("what users look at together", profile.users_with_two, "with two events or more"),
    ):
        if number < _FEWEST_USERS:
            yield Shortage(what, f"{plural(number, 'user')} {why}, fewer than {_FEWEST_USERS}")
    if not profile.kinds["visit"]:
        yield Shortage("interest before a purchase, and pages that follow a running session", "there is no visit")
    if not profile.sales_with_photos:
        yield Shortage("themes of photos", "no sale has a photo")
    if not profile.sales_with_attributes:
        yield Shortage(
            "likeness of sales that nobody has visited yet, but for words and prices", "no sale has an attribute"
        )


def _why_no_towers(plan: "_Plan") -> str:
    """Return why there are too few events to train towers; empty if there are enough."""
    towers, until = plan.settings.recommenders.towers, plan.as_of - plan.days * DAY
    of_all, stopping = (
        plan.profile.last_days("open_events", days, until) for days in (towers.days, towers.stopping_days)
    )
    fewest = min(of_all - stopping, stopping)
    if fewest >= towers.min_events:
        return ""
    return (
        f"{plural(fewest, 'event')} of open sales in the {towers.days - towers.stopping_days} days to learn from or "
        f"the {towers.stopping_days} after them, before the {plural(plan.days, 'training day')}; fewer than "
        f"{towers.min_events:,} (recommenders.towers.min_events)"
    )


def _silent_days(profile: DataProfile) -> pd.Series:
    """Return the days without an event, but for those days of the week on which the shop mostly has none."""
    days = profile.days["day"]
    is_silent = profile.days["visits"] + profile.days["purchases"] == 0
    return days[is_silent & (is_silent.groupby(days.dt.dayofweek).transform("mean") <= 0.5)]


def _exactly(gap: int, side: str) -> str:
    return f"exactly {plural(round(gap / HOUR, 2), 'hour')} {side}" if gap else "exactly at"
