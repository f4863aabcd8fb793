"""Chooses the ranking that a page is made of: the only stage that reads a user's record."""

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
    """The ranking that was asked for, as far as it could be had, and those that its page is mixed or compared with."""

    picks: Iterable[Pick] = ()
    """Best first, open or not; to be read once."""
    session: SessionRanking | None = None
    """What explains the picks, where they were ranked for the running session."""
    why_not: str = ""
    """Why the ranking is not there, or not with the session."""
    second: Iterable[Pick] = ()
    """Of the policy that takes turns with the page's own."""
    others: Sequence[Iterable[Pick]] = ()
    """Of each other side that the page is compared with."""


class RankingChooser:
    """Chooses among the rankings of one snapshot; any number of threads may ask."""

    def __init__(self, snapshot: Snapshot):
        self._users = snapshot.users
        self._shared = {policy: picks(ranking) for policy, ranking in snapshot.shared_rankings.items()}
        self._session_ranker: SessionRanker | None = None
        self.session_problem = ""
        """Why sessions cannot be ranked; empty where they can."""
        try:
            self._session_ranker = SessionRanker(snapshot)
        except SnapshotError as error:
            self.session_problem = str(error)

    def choose(self, request: PageRequest, is_urgent: bool) -> ChosenRanking:
        """Choose the ranking for a request.

        Args:
            request: Of a policy of the snapshot.
            is_urgent: Whether little time is left: the session, which takes long, is left out.

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
        """Return the ranking of another policy for the same request; of a session, the features are shared."""
        if ranking.session is not None and policy not in self._shared:
            return replace(ranking.session, policy=policy).picks()
        return self._ranking(request._replace(policy=policy, explain=False), is_urgent).picks
