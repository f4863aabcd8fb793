"""What the size and the character of the demo shop depend on."""

from datetime import UTC, datetime

from pydantic import AwareDatetime, Field

from recsys.settings import StepSettings


class DemoShopSettings(StepSettings):
    """Settings of the demo shop; the same settings always build the same shop."""

    seed: int = Field(7, ge=0)
    """Where every random draw starts: another seed is another shop."""

    users: int = Field(5_000, ge=20)
    """Users who come at least once in the period."""

    days: int = Field(120, ge=7)
    """Days of visits and purchases, ending at `ends_at`."""

    ends_at: AwareDatetime = datetime(2026, 3, 1, tzinfo=UTC)
    """The instant of the night: no event at or after it, but sales planned for the three days that follow."""

    open_sales: int = Field(130, ge=20)
    """Sales open at once, on average over the year."""

    sessions_per_week: float = Field(1.4, gt=0, le=28)
    """Mean sessions a week of a user who comes back; half of these users come far less."""

    one_time_share: float = Field(1 / 3, ge=0, lt=1)
    """Share of the users who come in one session and never again."""

    purchases_per_visit: float = Field(0.06, gt=0, lt=0.5)
    """Share of the visits that lead to a wish to buy; some wishes come too late or repeat a purchase."""

    picture_taste_share: float = Field(1 / 3, ge=0, le=1)
    """Share of the variance of taste that lies in what a sale's pictures show; 0 switches it off."""

    photos: int = Field(1_200, ge=60)
    """Different photos in the shop; a hotel that is sold again shows some of them again."""

    late_share: float = Field(0.02, ge=0, le=1)
    """Share of the events that are recorded minutes to hours after they occurred."""
