"""What is wrong at the moment: said once in the log, and as long as it lasts in status, health and metrics."""

import logging

_log = logging.getLogger(__name__)


class Troubles:
    """At most one trouble of each kind; any number of threads may note and clear."""

    def __init__(self) -> None:
        self._of_kind: dict[str, str] = {}

    def note(self, kind: str, text: str) -> None:
        """Say that something is wrong, with what goes on meanwhile."""
        if self._of_kind.get(kind) != text:
            self._of_kind[kind] = text
            _log.warning("%s: %s", kind, text)

    def clear(self, kind: str) -> None:
        """Say that it is well again."""
        if kind in self._of_kind and self._of_kind.pop(kind, None) is not None:
            _log.info("%s: well again", kind)

    def listed(self) -> list[str]:
        """Return what is wrong."""
        return [f"{kind}: {text}" for kind, text in sorted(self._of_kind.copy().items())]
