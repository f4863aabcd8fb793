"""Chooses the ranking that a page is made from: the only stage that reads a user's record."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from recsys.errors import SnapshotError, StoreError
from recsys.instants import HOUR, SECOND, to_micros
from recsys.ranking.ranker import Ranker
from recsys.shop.live_counts import LiveCounts
from recsys.snapshot.format import POPULARITY, Snapshot
from recsys.snapshot.users import User
from serving.answers import sentences
from serving.answers.live_ranker import LiveRanker
from serving.answers.open_sales import picks
from serving.answers.pages import PageRequest, Pick, Visit
from serving.answers.session import SessionRanker, SessionRanking

_NOTHING: frozenset[int] = frozenset()
_SIMILAR_PER_PLACE = 3
"""Number of the most similar sales, per place of a page, that are put in the user's order."""


class ChosenRanking(NamedTuple):
    """The requested ranking, empty where it is unavailable, and the rankings to interleave or compare with."""

    picks: Iterable[Pick] = ()
    """All ranked sales, best first, including sales that are not open; can be iterated once only."""
    session: SessionRanking | None = None
    """The scores that the ranking, or else the second one, was made from for this request; None for rankings of the
    snapshot."""
    is_whole: bool = True
    """Whether every ranking holds all sales that it can: none is of the best few that the night kept of a user's."""
    why_not: str = ""
    """Why the ranking is missing, does not include the session, or is not live; empty otherwise."""
    second: Iterable[Pick] = ()
    """The ranking of the second policy of an interleaved page."""
    others: Sequence[Iterable[Pick]] = ()
    """The ranking of each other variant that the page is compared with."""
    user: User | None = None
    """The user's record; None for a user that the snapshot does not know, or does not need to."""
    bought: frozenset[int] = _NOTHING
    """The sales, positions in the snapshot's, that the user bought in a short time ago: every page shows them last."""


class _Side(NamedTuple):
    """One of the rankings that a request needs: its own, that of an interleaved policy, or of another variant."""

    policy: str
    is_live: bool


class RankingChooser:
    """Chooses among the rankings of one snapshot; safe for concurrent use by threads.

    Args:
        snapshot: The snapshot.
        just_bought_hours: Hours for which a sale that the user bought is shown last; None for no time.
        counts: Returns the latest counts of what all users do; None ranks every page as of the night.
        is_live: Whether pages are ranked as of the present that do not say.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        just_bought_hours: float | None,
        counts: Callable[[], LiveCounts] | None = None,
        is_live: bool = True,
    ):
        self._as_of = to_micros(snapshot.as_of)
        self._just_bought = None if just_bought_hours is None else just_bought_hours * HOUR
        self._position = {sale.sale_id: position for position, sale in enumerate(snapshot.sales)}
        self._of_catalogue: Mapping[int, int] = {}
        self._users = snapshot.users
        self._shared = {policy: picks(ranking) for policy, ranking in snapshot.shared_rankings.items()}
        self._missing = snapshot.manifest.missing_policies
        self._session_ranker: SessionRanker | None = None
        self._is_live = is_live and counts is not None
        self.live: LiveRanker | None = None
        """The ranker as of the present; None where the snapshot has no ranker, or nothing is counted."""
        self.known_sales: frozenset[str] | None = None
        """The ids of all sales of the night; None where the snapshot has no ranker, which holds them."""
        self.session_problem = ""
        """Why running sessions cannot be ranked; empty where they can."""
        try:
            self._session_ranker = SessionRanker(snapshot)
            if counts is not None:
                self.live = LiveRanker(self._session_ranker.night, self._session_ranker.catalogue, counts)
            sale_ids = self._session_ranker.sale_ids
            self.known_sales = frozenset(sale_ids)
            at = self._position
            self._of_catalogue = {row: at[sale_id] for row, sale_id in enumerate(sale_ids) if sale_id in at}
        except SnapshotError as error:
            self.session_problem = str(error)

    def choose(self, request: PageRequest, now: int, is_urgent: Callable[[], bool]) -> ChosenRanking:
        """Choose the ranking for a request.

        Args:
            request: With a policy that the snapshot holds.
            now: The instant that the page is for, in microseconds since 1970 UTC.
            is_urgent: Returns whether the deadline is near: then the session, which takes longest to rank, is ignored.

        Raises:
            DamagedRecordError: If the user's record is damaged.
        """
        ranking = self._choose(request, now, is_urgent)
        if not ranking.why_not and self._wants_live(request.is_live) and self.live is None:
            ranking = ranking._replace(why_not=sentences.NOT_LIVE)
        bought = self._bought(request, ranking.user, now)
        return ranking._replace(bought=bought) if bought else ranking

    def _choose(self, request: PageRequest, now: int, is_urgent: Callable[[], bool]) -> ChosenRanking:
        if request.policy in self._missing:
            return ChosenRanking(why_not=sentences.POLICY_MISSING)
        if request.like:
            return self._choose_similar(request, now, is_urgent)
        if not (request.user_id or request.session):
            return self._rankings(request, now, None, {}, sentences.ANONYMOUS)
        try:
            user = self._users.find(request.user_id) if request.user_id else None
        except StoreError:
            return self._rankings(request, now, None, {}, sentences.STORE_OUT_OF_REACH)
        if not request.session and user is None:
            return self._rankings(request, now, None, {}, sentences.UNKNOWN_USER)
        to_rank = {side.is_live for side in self._sides(request) if side.is_live or request.session}
        if not to_rank:
            return self._rankings(request, now, user, {}, "")
        if self._session_ranker is None or is_urgent():
            why_not = sentences.NO_SESSION_RANKER if self._session_ranker is None else sentences.DEADLINE_NEAR
            return self._rankings(request, now, user, {}, why_not if request.session else "")
        scores = self._scores(request, user, request.session, to_rank, now)
        return self._rankings(request, now, user, scores, "" if scores else sentences.UNKNOWN_SESSION)

    def _choose_similar(self, request: PageRequest, now: int, is_urgent: Callable[[], bool]) -> ChosenRanking:
        """Return the rankings by similarity to a sale; a user whose record is out of reach has those of anybody."""
        if self._session_ranker is None or is_urgent():
            why_not = sentences.NO_SESSION_RANKER if self._session_ranker is None else sentences.DEADLINE_NEAR
            return self._rankings(request, now, None, {}, why_not)
        try:
            user = self._users.find(request.user_id) if request.user_id else None
        except StoreError:
            user = None
        scores = {}
        for is_live in {side.is_live for side in self._sides(request)}:
            ranker, n = self._ranker(is_live, now), _SIMILAR_PER_PLACE * request.n
            ranking = self._session_ranker.rank_similar(request.policy, user, request.like, ranker, n)
            if ranking is None:
                return self._rankings(request, now, None, {}, sentences.UNKNOWN_SALE)
            scores[is_live] = ranking
        return self._rankings(request, now, user, scores, "")

    def anew(self, request: PageRequest, ranking: ChosenRanking, now: int) -> ChosenRanking | None:
        """Rank all sales of the horizon, of which the night kept only the best few for each user.

        Args:
            request: The request.
            ranking: The ranking that was chosen for it, and holds too few sales.
            now: The instant that the page is for, in microseconds since 1970 UTC.

        Returns:
            None where the snapshot cannot rank the user, or where the ranking holds all sales.
        """
        if ranking.is_whole or ranking.user is None or self._session_ranker is None:
            return None
        to_rank = {side.is_live for side in self._sides(request)}
        scores = self._scores(request, ranking.user, (), to_rank, now)
        return self._rankings(request, now, ranking.user, scores, ranking.why_not)._replace(bought=ranking.bought)

    def scores(self, request: PageRequest, ranking: ChosenRanking, now: int) -> SessionRanking | None:
        """Return the scores that a ranking is explained by; None where the snapshot cannot rank the user."""
        if ranking.session is not None or ranking.user is None or self._session_ranker is None:
            return ranking.session
        is_live = self._sides(request)[0].is_live
        return self._scores(request, ranking.user, (), {is_live}, now)[is_live]

    def _bought(self, request: PageRequest, user: User | None, now: int) -> frozenset[int]:
        """Return the sales that the user bought in a short time before an instant, by the night's history and since."""
        if self._just_bought is None or (user is None and not request.bought):
            return _NOTHING
        at = self._position
        bought = [at[sale_id] for sale_id in request.bought if sale_id in at]
        seconds = (self._just_bought - (now - self._as_of)) / SECOND
        if user is not None and seconds > 0:
            bought += self._bought_within(user, seconds)
        return frozenset(bought)

    def _bought_within(self, user: User, seconds: float) -> list[int]:
        """Return the sales, positions in the snapshot's, that the user bought in the seconds before the night."""
        of_catalogue = self._of_catalogue
        if not of_catalogue:
            return []
        return [of_catalogue[sale] for sale in user.purchases_within(seconds) if sale in of_catalogue]

    def _scores(
        self, request: PageRequest, user: User | None, session: Sequence[Visit], to_rank: Iterable[bool], now: int
    ) -> dict[bool, SessionRanking]:
        """Return the scores as of the present (True) or the night; none where neither user nor session is known."""
        assert self._session_ranker is not None
        scores = {}
        for is_live in to_rank:
            ranker = self._ranker(is_live, now)
            if (ranking := self._session_ranker.rank(request.policy, user, session, ranker)) is not None:
                scores[is_live] = ranking
        return scores

    def _ranker(self, is_live: bool, now: int) -> Ranker:
        """Return the ranker as of the present, or of the night."""
        assert self._session_ranker is not None
        return self.live.at(now) if is_live and self.live is not None else self._session_ranker.night

    def popular(self, now: int, is_live: bool | None) -> list[Pick]:
        """Return the popularity ranking as of an instant, in microseconds since 1970 UTC, or of the night.

        Args:
            now: The instant.
            is_live: Whether it is as of the instant; None where the service's settings decide.
        """
        return self._shared_at(POPULARITY, now, self._wants_live(is_live))

    def _wants_live(self, asked: bool | None) -> bool:
        return self._is_live if asked is None else asked

    def _sides(self, request: PageRequest) -> list[_Side]:
        """Return what the request's own ranking, then the interleaved one if there is one, and the others are."""
        asked = [(request.policy, request.is_live)]
        if request.interleaved is not None:
            asked.append((request.interleaved.policy, request.interleaved.is_live))
        asked += [(side.policy, side.is_live) for side in request.other_sides]
        return [_Side(policy, self.live is not None and self._wants_live(is_live)) for policy, is_live in asked]

    def _shared_at(self, policy: str, now: int, is_live: bool) -> list[Pick]:
        """Return a ranking that is the same for all users."""
        live = self.live if is_live else None
        return live.shared(policy, now) if live is not None and live.ranks(policy) else self._shared[policy]

    def _rankings(
        self, request: PageRequest, now: int, user: User | None, scores: Mapping[bool, SessionRanking], why_not: str
    ) -> ChosenRanking:
        """Return the rankings of all policies of a request, by the scores or else as the night kept them.

        Where those of the night stand in for live ones, what is the same for all users is as of the present.

        Args:
            request: The request.
            now: The instant that the page is for.
            user: The user's record.
            scores: As of the present (True) and of the night (False), as far as they were computed.
            why_not: Why there are none of the request's own.
        """

        def picks_of(side: _Side) -> Iterable[Pick]:
            if side.policy in self._shared:
                return self._shared_at(side.policy, now, side.is_live)
            if side.policy in self._missing:
                return ()
            if side.is_live in scores:
                return scores[side.is_live].by(side.policy).picks()
            if user is None:
                return ()
            kept, live = user.places(side.policy), self.live if side.is_live else None
            return kept if live is None else live.moved(side.policy, kept, self._bought_within(user, math.inf), now)

        sides = self._sides(request)
        n_mixed = 1 if request.interleaved is None else 2
        personal = [side for side in sides if side.policy not in self._shared]
        explaining = [side for side in sides[:n_mixed] if side in personal and side.is_live in scores]
        rankings = [picks_of(side) for side in sides]
        return ChosenRanking(
            picks=rankings[0],
            session=scores[explaining[0].is_live].by(explaining[0].policy) if explaining else None,
            is_whole=all(side.is_live in scores for side in personal),
            why_not="" if request.policy in self._shared else why_not,
            second=rankings[1] if n_mixed == 2 else (),
            others=rankings[n_mixed:],
            user=user,
        )
