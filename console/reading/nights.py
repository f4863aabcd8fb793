"""What a night did: its steps and how long they took, what it set aside, what it measured, what was published."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from recsys.config.settings import Settings
from recsys.data_profile.rule_counts import REFUSED_RULE_COUNTS, RULE_COUNTS
from recsys.errors import SnapshotError, StoreError
from recsys.instants import to_micros
from recsys.pipeline.night_values import NightValues, read_night_values
from recsys.snapshot import store
from recsys.snapshot.format import LeftOut, Manifest, read_manifest
from recsys.storage.journal import holder, steps_of
from recsys.storage.outputs import Outputs
from recsys.storage.places import Place, modified
from recsys.storage.progress import read_progress

_NAME = "%Y%m%dT%H%M%SZ"
_NIGHTS = "nights"
EXAMPLES_SHOWN = 3


class StepLine(NamedTuple):
    """A step of a night."""

    name: str
    state: str
    """`running`, `stopped` (killed while it ran), `failed`, or `done`."""
    started_at: datetime | None
    seconds: float | None
    """How long it took, or has taken; None if that was not recorded."""
    before: float | None
    """How long it took in the night before; None if that is not known."""
    told: str
    """Its summary, or the error that ended it."""


class BrokenRule(NamedTuple):
    """A rule that rows of the source broke."""

    table: str
    name: str
    meaning: str
    action: str
    rows: int
    """Number of rows of the table."""
    broken: int
    before: int | None
    """Number of rows that broke it in the night before; None if that is not known."""
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Night:
    """A night, as far as it got."""

    name: str
    """Name of its folder, its instant."""
    as_of: datetime
    holder: str | None
    """The process that runs it now; None if none does."""
    steps: list[StepLine]
    left_out: list[LeftOut]
    broken: list[BrokenRule]
    values: NightValues | None
    """What it was checked by; None if it did not get so far."""

    @property
    def failed(self) -> StepLine | None:
        """The step that failed, or during which the night was stopped; None if none did."""
        return next((step for step in self.steps if step.state in ("failed", "stopped")), None)

    @property
    def seconds(self) -> float:
        """The time of all steps."""
        return sum(step.seconds or 0.0 for step in self.steps)


class Served(NamedTuple):
    """The snapshot that is published."""

    name: str
    manifest: Manifest
    published_at: datetime | None


def names_of_nights(settings: Settings) -> list[str]:
    """Return the names of the nights whose tables are kept, the latest first."""
    folder = settings.place / _NIGHTS
    if not folder.exists():
        return []
    found = (each.name for each in folder.iterdir() if each.is_dir())
    return sorted((name for name in found if _instant(name) is not None), reverse=True)


def read_night(settings: Settings, name: str, before: str | None, present: datetime) -> Night:
    """Return a night.

    Args:
        settings: The shop's settings.
        name: Its name, one of `names_of_nights`.
        before: Name of the night to compare with; None if there is none.
        present: The present time of this machine.

    Raises:
        StoreError: If a file of it is damaged.
    """
    folder = settings.place / _NIGHTS / name
    as_of = _instant(name)
    if as_of is None:
        raise StoreError(f"night == {name!r}, must be an instant such as 20260301T000000Z: choose one of the list")
    entries, runs = steps_of(folder), holder(folder)
    earlier = settings.place / _NIGHTS / before if before else None
    values = [each for each in read_night_values(settings.place) if each.as_of == as_of]
    return Night(
        name=name,
        as_of=as_of,
        holder=runs,
        steps=_steps(folder, entries, runs is not None, earlier, present),
        left_out=[LeftOut.model_validate(line) for entry in entries.values() for line in entry.get("left_out", ())],
        broken=_broken_rules(folder, earlier),
        values=values[-1] if values else None,
    )


def values_before(settings: Settings, as_of: datetime, count: int) -> list[NightValues]:
    """Return the values of the nights before an instant, hours between them left out, the latest first."""
    nights = [each for each in read_night_values(settings.place, to_micros(as_of)) if not each.is_hourly]
    return nights[: -count - 1 : -1]


def served(settings: Settings) -> Served | None:
    """Return the published snapshot on this machine; None if there is none, or it is damaged."""
    root = settings.snapshots_folder
    try:
        name = store.current(root)
        if name is None:
            return None
        published = [each.published_at for each in store.publications(root) if each.name == name]
        return Served(name, read_manifest(root / name), published[-1] if published else None)
    except SnapshotError:
        return None


def _steps(
    folder: Place, entries: dict[str, dict[str, Any]], is_held: bool, earlier: Place | None, present: datetime
) -> list[StepLine]:
    before = {each.name: each.seconds for each in read_progress(earlier).steps} if earlier else {}
    noted = read_progress(folder).steps
    lines = []
    for step in noted:
        state: str = step.state
        seconds = step.seconds
        if state == "running":
            state = "running" if is_held else "stopped"
            seconds = (present - step.started_at).total_seconds() if is_held else None
        lines.append(StepLine(step.name, state, step.started_at, seconds, before.get(step.name), step.told))
    known = {step.name for step in noted}
    return lines + [
        StepLine(name, "done", None, None, before.get(name), entry["summary"])
        for name, entry in entries.items()
        if name not in known
    ]


def _broken_rules(folder: Place, earlier: Place | None) -> list[BrokenRule]:
    before = {(each["table"], each["rule"]["name"]): each["broken"] for each in _counts(earlier)} if earlier else {}
    return [
        BrokenRule(
            count["table"],
            count["rule"]["name"],
            count["rule"]["meaning"],
            count["rule"]["action"],
            count["rows"],
            count["broken"],
            before.get((count["table"], count["rule"]["name"])),
            tuple(count["examples"][:EXAMPLES_SHOWN]),
        )
        for count in _counts(folder)
        if count["broken"]
    ]


def _counts(folder: Place) -> list[dict[str, Any]]:
    """Return the numbers of rows that break each rule: of a refused source, if that is what was found last."""
    found = [file for file in (Outputs.of(folder) / RULE_COUNTS, folder / REFUSED_RULE_COUNTS) if file.exists()]
    if not found:
        return []
    file = max(found, key=modified)
    try:
        counts: list[dict[str, Any]] = json.loads(file.read_bytes())
    except ValueError:
        raise StoreError(f"{file} must be JSON, as nights write it: run the night again") from None
    return counts


def _instant(name: str) -> datetime | None:
    try:
        return datetime.strptime(name, _NAME).replace(tzinfo=UTC)
    except ValueError:
        return None
