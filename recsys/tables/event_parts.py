"""The parts of table `events`: the events of one day each, whose date is in the part's name."""

from collections.abc import Iterable

from recsys.instants import DAY, dates
from recsys.storage.places import Place
from recsys.tables.parts import parts_of


def day_of_part(name: str) -> str:
    """Return the day of a part of table `events`, from its name."""
    return name.split("-")[1]


def parts_of_days(table: Place, as_ofs: Iterable[int]) -> list[str]:
    """Return the names of the parts of table `events` with the events of the 24 hours from each instant on.

    Args:
        table: Folder of the table.
        as_ofs: Instants, microseconds UTC.
    """
    days = {f"{day:%Y%m%d}" for as_of in as_ofs for day in dates(as_of, as_of + DAY)}
    return [part.name for part in parts_of(table) if day_of_part(part.name) in days]
