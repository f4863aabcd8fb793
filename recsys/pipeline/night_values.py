"""What is measured of a night before it is published; kept as `<folder>/night_checks/<as_of>.json`."""

from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from recsys.errors import StoreError
from recsys.instants import compact, from_micros, to_micros
from recsys.storage.local import write_whole

FOLDER = "night_checks"


class NightValues(BaseModel):
    """What was measured of a night before it was published, or was not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: AwareDatetime
    version: str
    """The champion that ranked."""
    rejected_share: float
    sales_covered: float
    """Of the sales of the horizon, or where users are fewer of those that their rankings have room for."""
    users: int
    purchases: int
    """Of the day before as_of, while the sale was open."""
    pages: int
    """Of that day: users who bought a sale that was open."""
    ndcg: float | None = None
    """ndcg@10 of the champion on these pages."""
    calibration: float | None = None
    """Purchases predicted per purchase made."""
    drift: dict[str, float] = {}
    """Of each feature the mean over the day's examples minus that in training, in standard deviations there."""
    problems: tuple[str, ...] = ()
    """Why the night was not published."""

    @property
    def worst_drift(self) -> tuple[str, float]:
        """The feature that drifted most, and how far; a name is empty where nothing was measured."""
        return max(self.drift.items(), key=lambda item: abs(item[1]), default=("", 0.0))


def keep(values: NightValues, folder: Path) -> None:
    """Keep the values of a night in the shop's folder; those that the same night had before go."""
    write_whole(folder / FOLDER / f"{compact(to_micros(values.as_of))}.json", values.model_dump_json(indent=1))


def kept(folder: Path, before: int | None = None) -> list[NightValues]:
    """Return the values of all nights before an instant, the latest last.

    Raises:
        StoreError: If a file is damaged.
    """
    nights = [_read(path) for path in sorted((folder / FOLDER).glob("*.json"))]
    return [night for night in nights if before is None or night.as_of < from_micros(before)]


def _read(path: Path) -> NightValues:
    try:
        return NightValues.model_validate_json(path.read_text())
    except (ValidationError, ValueError) as error:
        raise StoreError(f"{path} does not hold the values of a night ({type(error).__name__}): remove it") from None
