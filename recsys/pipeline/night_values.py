"""The values that a night is checked by, stored as `<folder>/night_checks/<as_of>.json`."""

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from recsys.errors import StoreError
from recsys.instants import compact, from_micros, to_micros
from recsys.storage.places import Place, contents, files_in, put

FOLDER = "night_checks"


class NightValues(BaseModel):
    """The values of one night, measured before it is published or refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: AwareDatetime
    is_hourly: bool = False
    """Whether it is an hour between two nights."""
    version: str
    """Version of the champion, which ranked; empty without one."""
    rejected_share: float
    """Share of the source's rows that were set aside, in [0, 1]."""
    sales_covered: float | None = None
    """Share of the horizon's sales that are in at least one user's ranking, in [0, 1]; relative to the total length of
    the rankings if that is less. None without users or without a personal policy."""
    events: int | None = None
    """Number of events before as_of; None in files of earlier versions."""
    users: int
    """Number of ranked users."""
    purchases: int
    """Number of purchases of open sales on the day before as_of."""
    pages: int
    """Number of pages of that day: one per user who bought an open sale."""
    ndcg: float | None = None
    """Mean ndcg@10 of the champion on these pages; None without pages."""
    calibration: float | None = None
    """Ratio of predicted to observed purchases; 1 for a calibrated model."""
    drift: dict[str, float] = {}
    """For each feature, its mean over the day's examples minus its mean in training, in standard deviations in
    training."""
    problems: tuple[str, ...] = ()
    """Why the night was not published; empty if it was."""

    @property
    def worst_drift(self) -> tuple[str, float]:
        """The feature with the largest absolute drift, and its drift; an empty name and 0 if none was measured."""
        return max(self.drift.items(), key=lambda item: abs(item[1]), default=("", 0.0))


def write_night_values(values: NightValues, folder: Place) -> None:
    """Write the values of a night into the shop's folder, replacing earlier ones of the same night."""
    put(folder / FOLDER / f"{compact(to_micros(values.as_of))}.json", values.model_dump_json(indent=1))


def read_night_values(folder: Place, before: int | None = None) -> list[NightValues]:
    """Return the values of all nights, or of those before an instant (microseconds UTC), latest last.

    Raises:
        StoreError: If a file is damaged.
    """
    files = files_in(folder / FOLDER, ".json")
    nights = [_parsed(content, file) for file, content in zip(files, contents(files), strict=True)]
    return [night for night in nights if before is None or night.as_of < from_micros(before)]


def _parsed(content: bytes, file: Place) -> NightValues:
    try:
        return NightValues.model_validate_json(content)
    except ValidationError as error:
        raise StoreError(f"{file} does not hold the values of a night ({type(error).__name__}): remove it") from None
