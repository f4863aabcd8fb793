"""Pages that are not made of the user's ranking though they should be: counted, and logged without flooding the log."""

import logging
import traceback
from time import monotonic

from recsys.errors import DamagedRecordError
from serving.telemetry.metrics import Metrics

_MOST_USERS = 10_000
"""Users who are remembered; after so many, each is logged again."""
_SECONDS = 60.0

_log = logging.getLogger(__name__)


class RankingFailures:
    """One for the process; any number of threads may note.

    A damaged record is logged once for each user, a bug with its stack trace once a minute for each place in the code.
    No entry names a user: the log of exposures tells by the request id who it was.
    """

    def __init__(self, metrics: Metrics):
        self._count = metrics.ranking_failures
        self._users: set[str] = set()
        self._logged_at: dict[object, float] = {}

    def note(self, failure: Exception, user_id: str, request_id: str) -> None:
        """Count and log why a page is not made of the user's ranking."""
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
        place = (type(failure), frames[-1].filename, frames[-1].lineno)
        now = monotonic()
        if now - self._logged_at.get(place, -_SECONDS) < _SECONDS:
            return
        self._logged_at[place] = now
        # Frames and type only: the message of an unexpected error may hold a user's id.
        trace = "".join(frames.format())
        _log.error("page %s shows popular sales: ranking failed with %s\n%s", request_id, type(failure).__name__, trace)
