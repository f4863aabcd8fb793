"""The log of changes: who changed what, when and why, from what to what; nothing in it is ever changed or removed.

    <folder>/console/changes/20260301T101500123456Z-<random>.json         a change is begun
                             20260301T101500123456Z-<random>-ended.json   how it ended

A change is logged before it is made: one that a killed process left open has no end, and the page says so.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from console.web.people import Visitor
from recsys.errors import ConfigurationError
from recsys.storage.places import Place, contents, create, files_in

_FOLDER = ("console", "changes")
_ENDED = "-ended.json"
_Kind = TypeVar("_Kind", bound=BaseModel)


class Change(BaseModel):
    """A change, as it was begun."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    by: str
    role: str
    action: str
    """What is done, such as `hide sale`."""
    what: str
    """What it is done to, such as the id of the sale."""
    reason: str
    before: str
    """What was so before."""


class End(BaseModel):
    """How a change ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    after: str = ""
    """What is so from then on; empty if it failed."""
    error: str = ""
    """Why it failed, or may have failed; empty if it did not."""


class Changes:
    """The log of a shop's changes.

    Args:
        folder: The shop's folder.
        clock: Returns the present time.
    """

    def __init__(self, folder: Place, clock: Callable[[], datetime]):
        self._folder = folder.joinpath(*_FOLDER)
        self._clock = clock

    @contextmanager
    def logged(self, by: Visitor, action: str, what: str, reason: str, before: str) -> Iterator[Callable[[str], None]]:
        """Log a change that is made in this context; the value is called with what is so after it.

        If it raises, the log says why. If it cannot be logged, it is not begun.

        Raises:
            ConfigurationError: If the reason is blank.
        """
        if not reason.strip():
            raise ConfigurationError("reason is empty, must say why: colleagues read it in the list of changes")
        at = self._clock()
        name = f"{at.astimezone(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}"
        role = by.role.name.lower()
        change = Change(at=at, by=by.name, role=role, action=action, what=what, reason=reason.strip(), before=before)
        create(self._folder / f"{name}.json", change.model_dump_json(indent=1).encode())
        after: list[str] = []
        error = ""
        try:
            yield after.append
        except BaseException as raised:
            error = str(raised) or type(raised).__name__
            raise
        finally:
            end = End(at=self._clock(), after="" if error else "; ".join(after), error=error)
            create(self._folder / f"{name}{_ENDED}", end.model_dump_json(indent=1).encode())

    def newest(self, count: int, before: str = "") -> list[tuple[str, Change | None, End | None]]:
        """Return the latest changes, the newest first, each with its key and its end; None for what cannot be read.

        Args:
            count: Maximum number.
            before: Key of a change: only earlier ones.
        """
        names = [file.name for file in files_in(self._folder, ".json")]
        ended = {name for name in names if name.endswith(_ENDED)}
        keys = sorted((name.removesuffix(".json") for name in names if name not in ended), reverse=True)
        chosen = [key for key in keys if not before or key < before][:count]
        begun = contents([self._folder / f"{key}.json" for key in chosen])
        with_end = [key for key in chosen if f"{key}{_ENDED}" in ended]
        ends = dict(zip(with_end, contents([self._folder / f"{key}{_ENDED}" for key in with_end]), strict=True))
        return [
            (key, _parsed(Change, content), _parsed(End, ends[key]) if key in ends else None)
            for key, content in zip(chosen, begun, strict=True)
        ]


def _parsed(kind: type[_Kind], content: bytes) -> _Kind | None:
    try:
        return kind.model_validate_json(content)
    except ValidationError:
        return None
