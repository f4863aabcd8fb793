"""What is written for a shop: which column of which file is what, in which form, and what was counted."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from recsys.config.pipeline import RawTable
from recsys.onboarding.columns import Column, Kind
from recsys.onboarding.guesses import Guess
from recsys.onboarding.roles import EVENTS, SALES, is_events


@dataclass(frozen=True)
class Plan:
    """What is written: which column is what, in which form, and what was counted."""

    name: str
    folder: str
    """Folder of everything that is written for the shop."""
    raw: Mapping[str, RawTable]
    """The raw tables by name."""
    files: Mapping[str, str]
    """Name of the raw table from which each table is selected."""
    guesses: Mapping[str, Guess]
    """By the key of the role, such as 'sales.title'."""
    sale_attributes: Mapping[str, Column]
    user_attributes: Mapping[str, Column]
    zone: str = "UTC"
    """Zone of the instants that do not say their own."""
    every_kind: Mapping[str, Kind] = field(default_factory=dict)
    """Kind of each row of a table of events without a column of kinds, by the table; a purchase if it is not there."""
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    """Kind by value of the column of kinds."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Conditions in SQL that an event must satisfy, with what they leave out in words."""
    has_copies: bool = False
    """Whether a sale's id is in several rows."""
    margin_days: int = 1
    """Days for which a sale without a closing time is open after its last event."""
    last_event: int | None = None
    """Instant of the last event of a shop of the past, microseconds UTC; None for one that goes on."""
    images_root: str | None = None
    notes: tuple[str, ...] = ()
    """What was found out about the files, in words."""

    def column(self, key: str) -> Column | None:
        """Return the column of a role; None if there is none."""
        return self.guesses[key].column if key in self.guesses else None

    @property
    def event_tables(self) -> list[str]:
        """Names of the tables of events: 'events', and of further files 'events_2' and so on."""
        return [table for table in self.files if is_events(table)]

    @property
    def has_kinds(self) -> bool:
        """Whether a column of some events says what the user did."""
        return any(self.column(f"{table}.kind") for table in self.event_tables)

    @property
    def sales_are_of_events(self) -> bool:
        """Whether there is no file of sales: they are those that the events name."""
        return self.files[SALES] == self.files[EVENTS]

    @property
    def missing_windows(self) -> list[str]:
        """Names of the ends of sales' windows that are derived from events."""
        return [name for name in ("opens_at", "closes_at") if not self.column(f"sales.{name}")]

    def sql(self, key: str) -> str:
        """Return the SQL of a role's column in the type of the table; of a role that has a column."""
        column = self.column(key)
        assert column is not None
        role = key.partition(".")[2]
        if role in ("sale_id", "user_id", "kind"):
            return column.id_sql
        if column.instants and role.endswith("_at"):
            timestamp = column.instants.sql.replace("{}", column.sql)
            is_local = not column.instants.has_zone and self.zone != "UTC"
            return f"to_utc_timestamp({timestamp}, '{self.zone}')" if is_local else timestamp
        if column.numbers and role in ("price", "revenue", "quantity", "position"):
            return column.numbers.sql.replace("{}", column.sql)
        return column.sql


@dataclass(frozen=True)
class EventCounts:
    """Counts of all rows of the events' files."""

    rows: int
    kinds: dict[str, int]
    """Number of rows of each kind, most frequent first; empty if there is no column of kinds."""
    first: int
    last: int
    """Instants of the first and the last event that is not in the future, microseconds UTC."""
    without_user: int
    without_sale: int
    returns: int
    """Rows whose quantity is not positive."""
    placeholders: tuple[str, ...]
    """Ids such as 'unknown', which are no user's."""
    last_user: str = ""
    """Whose event the last one is; '' if no user is known."""
