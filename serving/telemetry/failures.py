"""Counts and logs, at a limited rate, the pages that could not be made from the user's ranking."""

import logging
import traceback
from time import monotonic

from recsys.errors import DamagedRecordError
from serving.telemetry.metrics import Metrics

_MOST_USERS = 10_000
"""Number of users remembered as logged; when it is reached, they are forgotten and may be logged again."""
_SECONDS = 60.0

_log = logging.getLogger(__name__)


class RankingFailures:
    """The ranking failures of one process; safe for concurrent use by threads.

    A damaged record is logged once per user; a bug, with its stack trace, at most once a minute per line of code.
    No entry names a user: the request id identifies the exposure, which does.
    """

    def __init__(self, metrics: Metrics):
        self._count = metrics.ranking_failures
        self._users: set[str] = set()
        self._logged_at: dict[object, float] = {}

    def note(self, failure: Exception, user_id: str, request_id: str) -> None:
        """Count and log why a page is not made from the user's ranking."""
        if isinstance(failure, DamagedRecordError):
            self._count.labels("damaged_record").inc()
            self._log_damage(failure, user_id, request_id)
        else:
            self._count.labels("bug").inc()
            self._log_bug(failure, request_id)

    def _log_damage(self, failure: DamagedRecordError, user_id: str, request_id: str) -> None:
        if user_id in self._users:
            return
        if len(self._users) >= _MOST_USERS:
            self._users = set()
        self._users.add(user_id)
        _log.warning("page %s shows popular sales: %s", request_id, failure)

    def _log_bug(self, failure: Exception, request_id: str) -> None:
        frames = traceback.extract_tb(failure.__traceback__)
        origin = (type(failure), frames[-1].filename, frames[-1].lineno)
        now = monotonic()
        if now - self._logged_at.get(origin, -_SECONDS) < _SECONDS:
            return
        self._logged_at[origin] = now
        # Stack frames and type only: the message of an unexpected error may contain a user's id.
        stack = {"stack": "".join(frames.format())}
        name = type(failure).__name__
        _log.error("page %s shows popular sales: ranking failed with %s", request_id, name, extra=stack)
