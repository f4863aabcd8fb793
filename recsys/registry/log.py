"""The log of changes of the champion, with author and reason: `<folder>/models/log/<number>.json`, each created once.

Each entry is whole, and on disk before the next step. A change consists of two entries: the change itself, written
before the alias is moved, and `done`, written after. A change without a second entry was interrupted: the alias shows
whether it took effect, and the next change first adds `done` or `abandoned`.
"""

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from recsys.errors import BusyError, StoreError
from recsys.storage.locks import locked
from recsys.storage.places import Place, contents, create, files_in


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
    """The end of a change, the second of its two entries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ends: str
    """Id of the change."""
    at: AwareDatetime
    outcome: Literal["done", "abandoned"]


_ENTRY: TypeAdapter[Change | _End] = TypeAdapter(Change | _End)


class ModelLog:
    """The log of one registered model.

    Args:
        folder: The shop's folder.
        model: Name of the registered model; the changes of other models in the same folder are ignored.
    """

    def __init__(self, folder: Place, model: str):
        self._folder = folder / "models"
        self._entries = self._folder / "log"
        self._model = model

    def locked(self) -> AbstractContextManager[None]:
        """Lock the log, so that other changes wait; a killed process releases its lock."""
        return locked(self._folder)

    def changes(self) -> list[Change]:
        """Return the changes that took effect, oldest first.

        Raises:
            StoreError: If an entry is damaged.
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
        """Write a change before it takes effect; the caller holds the lock.

        Raises:
            BusyError: If somebody else changes the champion nevertheless, after a lease that was slept through.
        """
        self._append(change)

    def end(self, change: Change, at: datetime, outcome: Literal["done", "abandoned"]) -> None:
        """Write the outcome of a change; the caller holds the lock."""
        self._append(_End(ends=change.id, at=at, outcome=outcome))

    def _changes_with_outcome(self) -> list[tuple[Change, str | None]]:
        entries = self._read()
        outcomes = {entry.ends: entry.outcome for entry in entries if isinstance(entry, _End)}
        changes = [entry for entry in entries if isinstance(entry, Change) and entry.model == self._model]
        return [(change, outcomes.get(change.id)) for change in changes]

    def _read(self) -> list[Change | _End]:
        files = files_in(self._entries, ".json")
        return [_parsed(content, file) for file, content in zip(files, contents(files), strict=True)]

    def _append(self, entry: BaseModel) -> None:
        last = max((int(file.stem) for file in files_in(self._entries, ".json")), default=0)
        file = self._entries / f"{last + 1:08}.json"
        try:
            create(file, entry.model_dump_json(by_alias=True, indent=1).encode())
        except FileExistsError:
            raise BusyError(f"another process changed the champion just now ({file}): run the command again") from None


def _parsed(content: bytes, file: Place) -> Change | _End:
    try:
        return _ENTRY.validate_json(content)
    except ValidationError:
        raise StoreError(
            f"{file} == {content[:80]!r}, must be JSON of a change or its end: restore it from a backup, or remove it"
        ) from None
