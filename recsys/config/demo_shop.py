"""Settings of the demo shop: its size, and how its users behave."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from recsys.instants import Instant
from recsys.settings import StepSettings


class DemoShopSettings(StepSettings):
    """Settings of the demo shop; equal settings always build the same shop."""

    seed: int = Field(7, ge=0)
    """Seed of every random draw; another seed builds another shop."""

    law: Literal["attributes", "groups"] = "attributes"
    """What tastes are for: `attributes`: region, category, amenities, price and pictures of a sale, each by itself;
    `groups`: hidden groups of sales, which no attribute names, with fashions that pass, and users who come for one
    group alone."""

    users: int = Field(5_000, ge=20)
    """Number of users; each has at least one session in the period."""

    days: int = Field(120, ge=7)
    """Length of the period of visits and purchases that ends at `ends_at`, in days."""

    ends_at: Instant = datetime(2026, 3, 1, tzinfo=UTC)
    """As_of of the shop's night: events occur strictly before it; sales are planned for the three days from it on."""

    open_sales: int = Field(130, ge=20)
    """Number of sales open at the same time, on average over the year."""

    sessions_per_week: float = Field(1.4, gt=0, le=28)
    """Mean sessions per week of a returning user; the median is far lower than the mean."""

    one_time_share: float = Field(1 / 3, ge=0, lt=1)
    """Share of the users who have exactly one session, in [0, 1)."""

    purchases_per_visit: float = Field(0.06, gt=0, lt=0.5)
    """Share of the visits after which the user decides to buy, in (0, 0.5); fewer become purchases, as some sales close
    before and some decisions repeat a purchase."""

    picture_taste_share: float = Field(1 / 3, ge=0, le=1)
    """Share of the variance of taste that is due to what a sale's photos show, in [0, 1]; 0 for none."""

    photos: int = Field(1_200, ge=60)
    """Number of distinct photos; several sales of the same hotel share some of theirs."""

    late_share: float = Field(0.02, ge=0, le=1)
    """Share of the events that are recorded minutes to hours after they occurred, in [0, 1]."""
