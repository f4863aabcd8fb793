"""Chooses the ranking that a page is made from: the only stage that reads a user's record."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from recsys.errors import SnapshotError, StoreError
from recsys.instants import HOUR, SECOND, to_micros
from recsys.shop.live_counts import LiveCounts
from recsys.snapshot.format import POPULARITY, Snapshot
from recsys.snapshot.users import User
from serving.answers import sentences
from serving.answers.live_ranker import LiveRanker
from serving.answers.open_sales import picks
from serving.answers.pages import PageRequest, Pick
from serving.answers.session import SessionRanker, SessionRanking

_NOTHING: frozenset[int] = frozenset()


class ChosenRanking(NamedTuple):
    """The requested ranking, empty where it is unavailable, and the rankings to interleave or compare with."""

    picks: Iterable[Pick] = ()
    """All ranked sales, best first, including sales that are not open; can be iterated once only."""
    session: SessionRanking | None = None
    """The scores that the rankings were made from for this request; None for rankings of the snapshot."""
    why_not: str = ""
    """Why the ranking is missing, or does not include the session; empty otherwise."""
    second: Iterable[Pick] = ()
    """The ranking of the second policy of an interleaved page."""
    others: Sequence[Iterable[Pick]] = ()
    """The ranking of each other variant that the page is compared with."""
    user: User | None = None
    """The user's record; None for a user that the snapshot does not know, or does not need to."""
    bought: frozenset[int] = _NOTHING
    """The sales, positions in the snapshot's, that the user bought in a short time ago: every page shows them last."""


class RankingChooser:
    """Chooses among the rankings of one snapshot; safe for concurrent use by threads."""

    def __init__(
        self,
        snapshot: Snapshot,
        just_bought_hours: float | None,
        counts: Callable[[], LiveCounts] | None = None,
    ):
        self._as_of = to_micros(snapshot.as_of)
        self._just_bought = None if just_bought_hours is None else just_bought_hours * HOUR
        self._position = {sale.sale_id: position for position, sale in enumerate(snapshot.sales)}
        self._of_catalogue: Mapping[int, int] = {}
        self._users = snapshot.users
        self._shared = {policy: picks(ranking) for policy, ranking in snapshot.shared_rankings.items()}
        self._missing = snapshot.manifest.missing_policies
        self._session_ranker: SessionRanker | None = None
        self.known_sales: frozenset[str] | None = None
        """The ids of all sales of the night; None where the snapshot has no ranker, which holds them."""
        self.session_problem = ""
        """Why running sessions cannot be ranked; empty where they can."""
        try:
            self._session_ranker = SessionRanker(snapshot, counts)
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
        bought = self._bought(request, ranking.user, now)
        return ranking._replace(bought=bought) if bought else ranking

    def _choose(self, request: PageRequest, now: int, is_urgent: Callable[[], bool]) -> ChosenRanking:
        if request.policy in self._missing:
            return ChosenRanking(why_not=sentences.POLICY_MISSING)
        if not (request.user_id or request.session):
            return self._rankings(request, now, None, None, sentences.ANONYMOUS)
        try:
            user = self._users.find(request.user_id) if request.user_id else None
        except StoreError:
            return self._rankings(request, now, None, None, sentences.STORE_OUT_OF_REACH)
        if not request.session and user is None:
            return self._rankings(request, now, None, None, sentences.UNKNOWN_USER)
        if not request.session and self.live is None:
            return self._rankings(request, now, user, None, "")
        scores = self._scores_now(request, user, now, is_urgent)
        if isinstance(scores, SessionRanking):
            return self._rankings(request, now, user, scores, "")
        return self._rankings(request, now, user, None, scores if request.session else "")

    def anew(self, request: PageRequest, ranking: ChosenRanking, now: int) -> ChosenRanking | None:
        """Rank all sales of the horizon, of which the night kept only the best few for each user.

        Args:
            request: The request.
            ranking: The ranking that was chosen for it, and holds too few sales.
            now: The instant that the page is for, in microseconds since 1970 UTC.

        Returns:
            None where the snapshot cannot rank the user, or where the ranking holds all sales.
        """
        if ranking.session is not None or (scores := self.scores(request, ranking, now)) is None:
            return None
        return self._rankings(request, now, ranking.user, scores, ranking.why_not)._replace(bought=ranking.bought)

    def scores(self, request: PageRequest, ranking: ChosenRanking, now: int) -> SessionRanking | None:
        """Return the scores that a ranking is explained by; None where the snapshot cannot rank the user."""
        if ranking.session is not None or ranking.user is None or self._session_ranker is None:
            return ranking.session
        return self._session_ranker.rank(request.policy, ranking.user, (), now)

    def _bought(self, request: PageRequest, user: User | None, now: int) -> frozenset[int]:
        """Return the sales that the user bought in a short time before an instant, by the night's history and since."""
        if self._just_bought is None or (user is None and not request.bought):
            return _NOTHING
        at, of_catalogue = self._position, self._of_catalogue
        bought = [at[sale_id] for sale_id in request.bought if sale_id in at]
        seconds = (self._just_bought - (now - self._as_of)) / SECOND
        if user is not None and seconds > 0 and of_catalogue:
            bought += [of_catalogue[sale] for sale in user.purchases_within(seconds) if sale in of_catalogue]
        return frozenset(bought)

    def _scores_now(
        self, request: PageRequest, user: User | None, now: int, is_urgent: Callable[[], bool]
    ) -> SessionRanking | str:
        """Return the scores as of the present, with the running session, or why there are none."""
        if is_urgent():
            return sentences.DEADLINE_NEAR
        if self._session_ranker is None:
            return sentences.NO_SESSION_RANKER
        return self._session_ranker.rank(request.policy, user, request.session, now) or sentences.UNKNOWN_SESSION

    def popular(self, now: int) -> list[Pick]:
        """Return the popularity ranking as of an instant, in microseconds since 1970 UTC."""
        return self._shared_at(POPULARITY, now)

    @property
    def live(self) -> LiveRanker | None:
        """The ranker as of the present; None where pages are ranked as of the night."""
        return (
            None if self._session_ranker is None or not self._session_ranker.live.is_live else self._session_ranker.live
        )

    def _shared_at(self, policy: str, now: int) -> list[Pick]:
        """Return a ranking that is the same for all users; as of the present where pages are live."""
        live = self.live
        return live.shared(policy, now) if live is not None and live.ranks(policy) else self._shared[policy]

    def _rankings(
        self, request: PageRequest, now: int, user: User | None, scores: SessionRanking | None, why_not: str
    ) -> ChosenRanking:
        """Return the rankings of all policies of a request, by the scores or else as the night kept them."""

        def picks_of(policy: str) -> Iterable[Pick]:
            if policy in self._shared:
                return self._shared_at(policy, now)
            if policy in self._missing:
                return ()
            if scores is not None:
                return replace(scores, policy=policy).picks()
            return () if user is None else user.places(policy)

        second = request.interleaved.policy if request.interleaved else None
        ranked_by = [policy for policy in (request.policy, second) if policy and policy not in self._shared]
        return ChosenRanking(
            picks_of(request.policy),
            replace(scores, policy=ranked_by[0]) if scores is not None and ranked_by else None,
            "" if request.policy in self._shared else why_not,
            () if second is None else picks_of(second),
            [picks_of(side.policy) for side in request.other_sides],
            user,
        )
