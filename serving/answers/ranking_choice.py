"""Chooses the ranking that a page is made from: the only stage that reads a user's record."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from recsys.errors import SnapshotError, StoreError
from recsys.snapshot.format import Snapshot
from recsys.snapshot.users import User
from serving.answers import sentences
from serving.answers.open_sales import picks
from serving.answers.pages import PageRequest, Pick
from serving.answers.session import SessionRanker, SessionRanking


class ChosenRanking(NamedTuple):
    """The requested ranking, empty where it is unavailable, and the rankings to interleave or compare with."""

    picks: Iterable[Pick] = ()
    """All ranked sales, best first, including sales that are not open; can be iterated once only."""
    session: SessionRanking | None = None
    """The session's ranking, which can explain the picks; None where they were not ranked for a session."""
    why_not: str = ""
    """Why the ranking is missing, or does not include the session; empty otherwise."""
    second: Iterable[Pick] = ()
    """The ranking of the second policy of an interleaved page."""
    others: Sequence[Iterable[Pick]] = ()
    """The ranking of each other variant that the page is compared with."""


class RankingChooser:
    """Chooses among the rankings of one snapshot; safe for concurrent use by threads."""

    def __init__(self, snapshot: Snapshot):
        self._users = snapshot.users
        self._shared = {policy: picks(ranking) for policy, ranking in snapshot.shared_rankings.items()}
        self._missing = snapshot.manifest.missing_policies
        self._session_ranker: SessionRanker | None = None
        self.session_problem = ""
        """Why running sessions cannot be ranked; empty where they can."""
        try:
            self._session_ranker = SessionRanker(snapshot)
        except SnapshotError as error:
            self.session_problem = str(error)

    def choose(self, request: PageRequest, is_urgent: bool) -> ChosenRanking:
        """Choose the ranking for a request.

        Args:
            request: With a policy that the snapshot holds.
            is_urgent: Whether the deadline is near: then the session, which takes longest to rank, is ignored.

        Raises:
            DamagedRecordError: If the user's record is damaged.
        """
        ranking = self._ranking(request, is_urgent)
        if second := request.interleaved:
            ranking = ranking._replace(second=self._other_picks(second.policy, request, ranking, is_urgent))
        if sides := request.other_sides:
            others = [self._other_picks(side.policy, request, ranking, is_urgent) for side in sides]
            ranking = ranking._replace(others=others)
        return ranking

    def _ranking(self, request: PageRequest, is_urgent: bool) -> ChosenRanking:
        if request.policy in self._shared:
            return ChosenRanking(self._shared[request.policy])
        if request.policy in self._missing:
            return ChosenRanking(why_not=sentences.POLICY_MISSING)
        if not (request.user_id or request.session):
            return ChosenRanking(why_not=sentences.ANONYMOUS)
        try:
            user = self._users.find(request.user_id) if request.user_id else None
        except StoreError:
            return ChosenRanking(why_not=sentences.STORE_OUT_OF_REACH)
        why_not = sentences.UNKNOWN_USER if user is None else ""
        if request.session or request.explain:
            ranking = self._session_ranking(request, user, is_urgent)
            if isinstance(ranking, SessionRanking):
                return ChosenRanking(ranking.picks(), ranking)
            why_not = ranking
        return ChosenRanking(() if user is None else user.places(request.policy), why_not=why_not)

    def _session_ranking(self, request: PageRequest, user: User | None, is_urgent: bool) -> SessionRanking | str:
        """Return the ranking for the running session, or why there is none."""
        if is_urgent:
            return sentences.DEADLINE_NEAR
        if self._session_ranker is None:
            return sentences.NO_SESSION_RANKER
        return self._session_ranker.rank(request.policy, user, request.session) or sentences.UNKNOWN_SESSION

    def _other_picks(
        self, policy: str, request: PageRequest, ranking: ChosenRanking, is_urgent: bool
    ) -> Iterable[Pick]:
        """Return the ranking of another policy for the same request; a session's features are computed only once."""
        if ranking.session is not None and policy not in self._shared:
            return replace(ranking.session, policy=policy).picks()
        return self._ranking(request._replace(policy=policy, explain=False), is_urgent).picks
