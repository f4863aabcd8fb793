"""The log of changes of the champion, with author and reason: `<folder>/models/log.jsonl`, append-only.

Each line is written atomically and is on disk before the next step. A change consists of two lines: the change itself,
written before the alias is moved, and `done`, written after. A change without a second line was interrupted: the alias
shows whether it took effect, and the next change first adds `done` or `abandoned`.
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
    """The result of a backtest of two versions: the paired difference of their mean ndcg@10 on the same pages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    """Id of the backtest's run in MLflow."""
    first_day: str
    """First day of the backtest, YYYY-MM-DD."""
    last_day: str
    """Last day, included."""
    value: float
    """Mean ndcg@10 of the promoted version minus that of the champion."""
    low: float
    """Lower end of the 95 % confidence interval of the paired difference."""
    high: float
    """Upper end of that interval."""

    @property
    def is_better(self) -> bool:
        """Whether the confidence interval is entirely above zero."""
        return self.low > 0

    def __str__(self) -> str:
        """Return the difference, its interval and the backtest in one line."""
        return (
            f"ndcg@10 {self.value:+.4f}, 95 % interval {self.low:+.4f} to {self.high:+.4f}, backtest of "
            f"{self.first_day} to {self.last_day} (run {self.run_id})"
        )


class Change(BaseModel):
    """A change of the champion."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    id: str
    model: str
    at: AwareDatetime
    action: Literal["first", "promote", "rollback", "found", "restored"]
    """`first`: the first version; `found`: the alias was moved by another tool, such as MLflow; `restored`: another
    tool had deleted it."""
    by: str
    """Author of the change."""
    why: str
    """Reason that the author gave; may be empty."""
    before: str | None = Field(alias="from")
    """Version that was the champion before; None before the first one."""
    after: str = Field(alias="to")
    """Version that becomes the champion."""
    evidence: Evidence | None = None
    """Backtest of both versions, if there is one."""
    forced: bool = False
    """Whether the evidence was overruled."""


class _End(BaseModel):
    """The end of a change, the second of its two lines."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ends: str
    """Id of the change."""
    at: AwareDatetime
    outcome: Literal["done", "abandoned"]


_LINE: TypeAdapter[Change | _End] = TypeAdapter(Change | _End)


class ModelLog:
    """The log of one registered model.

    Args:
        folder: The shop's folder.
        model: Name of the registered model; the changes of other models in the same file are ignored.
    """

    def __init__(self, folder: Path, model: str):
        self._folder = folder / "models"
        self._path = self._folder / "log.jsonl"
        self._model = model

    def locked(self) -> AbstractContextManager[None]:
        """Lock the log, so that other changes wait; a killed process releases its lock."""
        return held(self._folder)

    def changes(self) -> list[Change]:
        """Return the changes that took effect, oldest first.

        Raises:
            StoreError: If a line is damaged.
        """
        return [change for change, outcome in self._changes_with_outcome() if outcome == "done"]

    def unfinished_change(self) -> Change | None:
        """Return the change without an end, if any: interrupted if the caller holds the lock, else perhaps in
        progress."""
        return next((change for change, outcome in self._changes_with_outcome() if outcome is None), None)

    def live_at(self, instant: datetime) -> Change | None:
        """Return the latest change at or before an instant, whose version was then the champion; None before the
        first."""
        return next((change for change in reversed(self.changes()) if change.at <= instant), None)

    def rollback_targets(self) -> list[str]:
        """Return the earlier champions that a rollback may return to, the latest first.

        A rollback undoes the changes after the version that it returned to, so that the next one goes further back.
        """
        champions: list[str] = []
        for change in self.changes():
            if change.action == "rollback" and change.after in champions:
                del champions[champions.index(change.after) + 1 :]
            else:
                champions = [version for version in champions if version != change.after] + [change.after]
        return champions[-2::-1]

    def begin(self, change: Change) -> None:
        """Write a change before it takes effect; the caller holds the lock."""
        self._append(change)

    def end(self, change: Change, at: datetime, outcome: Literal["done", "abandoned"]) -> None:
        """Write the outcome of a change; the caller holds the lock."""
        self._append(_End(ends=change.id, at=at, outcome=outcome))

    def _changes_with_outcome(self) -> list[tuple[Change, str | None]]:
        lines = list(self._read_lines())
        outcomes = {line.ends: line.outcome for line in lines if isinstance(line, _End)}
        changes = [line for line in lines if isinstance(line, Change) and line.model == self._model]
        return [(change, outcomes.get(change.id)) for change in changes]

    def _read_lines(self) -> Iterator[Change | _End]:
        if not self._path.exists():
            return
        whole, _, _ = self._path.read_bytes().rpartition(b"\n")  # a killed process leaves a partial line
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                yield _LINE.validate_json(line)
            except ValidationError:
                raise StoreError(
                    f"{self._path}:{number} == {line[:80]!r}, must be a JSON line of a change or its end: restore the "
                    "file from a backup, or remove the line"
                ) from None

    def _append(self, line: BaseModel) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _remove_partial_line(descriptor, self._path)
            os.write(descriptor, line.model_dump_json(by_alias=True).encode() + b"\n")
        finally:
            os.close(descriptor)
        to_disk(self._path)
        to_disk(self._folder)


def _remove_partial_line(descriptor: int, path: Path) -> None:
    """Remove the last line if a killed process wrote it only in part; no caller was told that it is written."""
    written = path.read_bytes()
    os.ftruncate(descriptor, written.rfind(b"\n") + 1)
