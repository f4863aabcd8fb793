"""Which version of the model was the champion when, who changed it and why: `<folder>/models/log.jsonl`.

Lines are only ever added, each whole and on the disk before the next step. A change is two lines: what is to be done,
before the alias is moved, and `done` after it. A change without its end was cut off: the alias tells what became of it,
and whoever changes it next adds `done` or `abandoned`.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from recsys.errors import StoreError
from recsys.storage.local import held, to_disk


class Evidence(BaseModel):
    """What a backtest says of two versions: the difference of their mean ndcg@10 on the same pages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    """The backtest's run in MLflow."""
    first_day: str
    last_day: str
    value: float
    """The promoted version's ndcg@10 minus the champion's."""
    low: float
    """Lower end of the paired 95 % interval."""
    high: float

    @property
    def is_better(self) -> bool:
        """Whether the whole interval is above zero."""
        return self.low > 0

    def __str__(self) -> str:
        """Say it as people read it."""
        return (
            f"ndcg@10 {self.value:+.4f}, 95 % interval {self.low:+.4f} to {self.high:+.4f}, backtest of "
            f"{self.first_day} to {self.last_day} (run {self.run_id})"
        )


class Change(BaseModel):
    """Another version becomes the champion."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    id: str
    model: str
    at: AwareDatetime
    action: Literal["first", "promote", "rollback", "found"]
    """`found`: the alias had been moved, not by this project."""
    by: str
    why: str
    before: str | None = Field(alias="from")
    after: str = Field(alias="to")
    evidence: Evidence | None = None
    forced: bool = False


class _End(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    ends: str
    """The id of the change."""
    at: AwareDatetime
    outcome: Literal["done", "abandoned"]


_LINE: TypeAdapter[Change | _End] = TypeAdapter(Change | _End)


class ModelLog:
    """The log of one registered model.

    Args:
        folder: Of the shop.
        model: The name of the registered model; another one's changes are passed over.
    """

    def __init__(self, folder: Path, model: str):
        self._folder = folder / "models"
        self._path = self._folder / "log.jsonl"
        self._model = model

    def changing(self) -> AbstractContextManager[None]:
        """Keep all other changes waiting; the lock of a killed process is free."""
        return held(self._folder)

    def changes(self) -> list[Change]:
        """Return the changes that were done, the oldest first.

        Raises:
            StoreError: If a line is damaged.
        """
        return [change for change, outcome in self._ended() if outcome == "done"]

    def cut_off(self) -> Change | None:
        """Return the change whose end is not known; only who holds the lock can tell that it is not under way."""
        return next((change for change, outcome in self._ended() if outcome is None), None)

    def live_at(self, instant: datetime) -> Change | None:
        """Return the change that made the version live at an instant the champion; None before the first one."""
        return next((change for change in reversed(self.changes()) if change.at <= instant), None)

    def before_current(self) -> list[str]:
        """Return the versions that a rollback may go to, the nearest first."""
        line: list[str] = []
        for change in self.changes():
            if change.action == "rollback" and change.after in line:
                del line[line.index(change.after) + 1 :]
            else:
                line = [version for version in line if version != change.after] + [change.after]
        return line[-2::-1]

    def begin(self, change: Change) -> None:
        """Say what is about to be done; the caller holds the lock."""
        self._add(change)

    def end(self, change: Change, at: datetime, outcome: Literal["done", "abandoned"]) -> None:
        """Say what became of a change; the caller holds the lock."""
        self._add(_End(ends=change.id, at=at, outcome=outcome))

    def _ended(self) -> list[tuple[Change, str | None]]:
        lines = list(self._lines())
        outcomes = {line.ends: line.outcome for line in lines if isinstance(line, _End)}
        changes = [line for line in lines if isinstance(line, Change) and line.model == self._model]
        return [(change, outcomes.get(change.id)) for change in changes]

    def _lines(self) -> Iterator[Change | _End]:
        if not self._path.exists():
            return
        whole, _, _ = self._path.read_bytes().rpartition(b"\n")  # what comes after was cut off while it was written
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                yield _LINE.validate_json(line)
            except ValidationError:
                raise StoreError(
                    f"{self._path}:{number} == {line[:80]!r}, must be a JSON line of a change or its end: restore the "
                    "file from a backup, or remove the line"
                ) from None

    def _add(self, line: BaseModel) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _drop_half_a_line(descriptor, self._path)
            os.write(descriptor, line.model_dump_json(by_alias=True).encode() + b"\n")
        finally:
            os.close(descriptor)
        to_disk(self._path)
        to_disk(self._folder)


def _drop_half_a_line(descriptor: int, path: Path) -> None:
    """Remove what a killed writer wrote of a line: nobody has been told that it is there."""
    written = path.read_bytes()
    os.ftruncate(descriptor, written.rfind(b"\n") + 1)
