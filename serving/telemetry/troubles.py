"""The current problems of a process: logged when they begin and end; part of status, health and metrics meanwhile."""

import logging

_log = logging.getLogger(__name__)


class Troubles:
    """The current problems, at most one of each kind; safe for concurrent use by threads."""

    def __init__(self) -> None:
        self._of_kind: dict[str, str] = {}

    def note(self, kind: str, text: str) -> None:
        """Set the problem of a kind; the text says what is wrong, and the next step or what goes on meanwhile."""
        if self._of_kind.get(kind) != text:
            self._of_kind[kind] = text
            _log.warning("%s: %s", kind, text)

    def clear(self, kind: str) -> None:
        """Remove the problem of a kind, if there is one."""
        if kind in self._of_kind and self._of_kind.pop(kind, None) is not None:
            _log.info("%s: recovered", kind)

    def listed(self) -> list[str]:
        """Return the current problems, by kind in alphabetical order."""
        return [f"{kind}: {text}" for kind, text in sorted(self._of_kind.copy().items())]
