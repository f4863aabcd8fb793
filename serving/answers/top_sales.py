"""Answers pages from one snapshot; what does not depend on the request is built when it is loaded."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from random import Random
from typing import NamedTuple, Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from recommendations.v1 import recommendations_pb2 as pb

from recsys.errors import ConfigurationError, SnapshotError, StoreError
from recsys.instants import to_micros
from recsys.logs.records import Assignment
from recsys.meta_model import is_meta, version_in
from recsys.rules import ArrangedPage, PageRules
from recsys.snapshot.format import POPULARITY, Snapshot, SnapshotSale
from recsys.snapshot.users import User
from serving.answers import sentences, wire
from serving.answers.mixing import NOT_MIXED, Mixed, drawn, interleaved, overlap
from serving.answers.open_sales import Doorkeeper, OpenSales, picks
from serving.answers.pages import OtherSide, Page, PageRequest, Pick
from serving.answers.session import SessionRanker, SessionRanking
from serving.stores.base import WithdrawnSale

MODEL = "home_ranker"
OPEN_REASON = "open"


class Experiments(Protocol):
    """Who is served what."""

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of the files in force, by surface."""

    def request(self, request: PageRequest, now: int) -> PageRequest:
        """Return the request for what the user is to be shown."""


class _Ranked(NamedTuple):
    """The ranking that was asked for, as far as it could be had."""

    picks: Iterable[Pick] = ()
    second: Iterable[Pick] = ()
    """Of the policy that takes turns with it."""
    session: SessionRanking | None = None
    why_not: str = ""
    """Why it is not there, or not with the session."""


class TopSales:
    """Ranks open sales by one snapshot; any number of threads may ask.

    Args:
        snapshot: Checked.
        version: Changes whenever `withdrawn` does.
        withdrawn: Returns the withdrawn sales by id.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        version: Callable[[], int] = lambda: 0,
        withdrawn: Callable[[], Mapping[str, WithdrawnSale]] = dict,
    ):
        self.snapshot = snapshot
        self.as_of = to_micros(snapshot.as_of)
        self.sale_ids = [sale.sale_id for sale in snapshot.sales]
        self.rules: PageRules | None = None
        self.experiments: Experiments | None = None
        self.session_ranker, self.session_problem = _session_ranker(snapshot)
        self._reasons = [sentences.reason(name) for name in (*snapshot.reasons, POPULARITY, OPEN_REASON)]
        self._popularity_reason = len(snapshot.reasons)
        self._open_reason = self._popularity_reason + 1
        self._doorkeeper = Doorkeeper(snapshot, self._open_reason, version, withdrawn)
        self._shared = {policy: picks(ranking) for policy, ranking in snapshot.shared_rankings.items()}
        self.model_versions = {policy: _model_version(snapshot, policy) for policy in snapshot.all_policies}
        self._heads = {policy: _head(snapshot, policy) for policy in snapshot.all_policies}
        self._writer = wire.SaleWriter(
            [_static_part(sale) for sale in snapshot.sales],
            [[wire.image(uri) for uri in sale.images] or [b""] for sale in snapshot.sales],
            [wire.reason(kind, text) for kind, text in self._reasons],
        )
        self._position = {sale_id: position for position, sale_id in enumerate(self.sale_ids)}

    def open_sales(self, now: int) -> OpenSales:
        """Return the open sales at an instant."""
        return self._doorkeeper.open_at(now)

    def answer(self, request: PageRequest, now: int, request_id: str, hurry: bool = False) -> tuple[Page, bytes]:
        """Return the page at an instant, and the `GetTopSalesResponse` that tells it.

        Args:
            request: What is asked for.
            now: Microseconds since 1970 UTC.
            request_id: The id of the answer.
            hurry: Leave out what takes long: the session.

        Raises:
            ConfigurationError: If the snapshot has no such policy.
        """
        if request.policy not in self._heads:
            listed = ", ".join(sorted(self._heads))
            raise ConfigurationError(f"policy == {request.policy!r}, must be one of {listed}")
        try:
            page = self._compared(request, now, request_id, hurry)
            return page, self._encoded(page, request, now, request_id)
        except (ArithmeticError, IndexError, SnapshotError):  # values that cannot be: the user's record is damaged
            page = self._page(request, now, _Ranked(why_not=sentences.DAMAGED_RECORD), request_id)
            return page, self._encoded(page, request, now, request_id)

    def _compared(self, request: PageRequest, now: int, request_id: str, hurry: bool) -> Page:
        """Return the page, and how much of it the other side of the experiment would show too."""
        ranked = self._ranked(request, hurry)
        if request.interleaved:
            ranked = ranked._replace(second=self._picks_of(request.interleaved.policy, request, ranked, hurry))
        page = self._page(request, now, ranked, request_id)
        if not request.other_sides:
            return page
        others = (self._other_page(side, request, ranked, now, hurry) for side in request.other_sides)
        return page._replace(overlap_at_10=min(overlap(page.picks, other.picks) for other in others))

    def _other_page(self, side: OtherSide, request: PageRequest, ranked: _Ranked, now: int, hurry: bool) -> Page:
        other = request._replace(
            policy=side.policy, follows_rules=side.follows_rules, explain=False, exploration=None, interleaved=None
        )
        return self._page(other, now, _Ranked(self._picks_of(side.policy, request, ranked, hurry)), "")

    def _picks_of(self, policy: str, request: PageRequest, ranked: _Ranked, hurry: bool) -> Iterable[Pick]:
        """Return the ranking of another policy for the same request; of a session, the features are shared."""
        if ranked.session is not None and policy not in self._shared:
            return replace(ranked.session, policy=policy).picks()
        return self._ranked(request._replace(policy=policy, explain=False), hurry).picks

    def _ranked(self, request: PageRequest, hurry: bool) -> _Ranked:
        if request.policy in self._shared:
            return _Ranked(self._shared[request.policy])
        if not (request.user_id or request.session):
            return _Ranked(why_not=sentences.ANONYMOUS)
        try:
            user = self.snapshot.users.find(request.user_id) if request.user_id else None
        except StoreError:
            return _Ranked(why_not=sentences.STORE_OUT_OF_REACH)
        if request.session or request.explain:
            ranked = self._ranked_for_session(request, user, hurry)
            if ranked.session or user is None:
                return ranked
            return _Ranked(user.places(request.policy), why_not=ranked.why_not)
        if user is None:
            return _Ranked(why_not=sentences.UNKNOWN_USER)
        return _Ranked(user.places(request.policy))

    def _ranked_for_session(self, request: PageRequest, user: User | None, hurry: bool) -> _Ranked:
        if hurry:
            return _Ranked(why_not=sentences.IN_A_HURRY)
        if self.session_ranker is None:
            return _Ranked(why_not=sentences.NO_SESSION_RANKER)
        ranking = self.session_ranker.rank(request.policy, user, request.session)
        if ranking is None:
            return _Ranked(why_not=sentences.UNKNOWN_SESSION)
        return _Ranked(ranking.picks(), session=ranking)

    def _page(self, request: PageRequest, now: int, ranked: _Ranked, request_id: str) -> Page:
        open_sales = self._doorkeeper.open_at(now)
        is_open = self._admitted(request, open_sales.is_open)
        rules = self._rules(request, now)
        wanted = request.n if rules is None else len(is_open)
        mixed, mixes = NOT_MIXED, request.exploration is not None or request.interleaved is not None
        most = self.snapshot.k if mixes else wanted
        own = list(islice((pick for pick in ranked.picks if is_open[pick[0]]), most))
        if mixes:
            mixed = self._mixed(request, own, ranked.second, is_open, wanted, request_id)
            own = mixed.picks or own[:wanted]
        if own:
            policy, level, why = request.policy, pb.FALLBACK_LEVEL_NONE, ""
        else:
            own, level, why = self._fallback(request, open_sales, is_open, ranked)
            policy, own = POPULARITY, own[:wanted]
        shown = own if len(own) == wanted else self._filled(own, request, open_sales, is_open, wanted)
        notes = [ranked.why_not] if ranked.why_not and not why else []
        page = Page(policy, level, why, shown, ranked.session is not None and ranked.session.visits > 0, notes=notes)
        if mixes:
            page = page._replace(propensities=mixed.propensities_of(shown), teams=mixed.teams_of(shown))
        if rules is not None:
            arranged = rules.arrange(
                [pick[0] for pick in shown], is_open, request.n, request.surface, request.attributes, now
            )
            page = self._arranged(page, arranged, mixed)
        if ranked.session is None and len(page.picks) == request.n:
            return page
        return self._explained(page, request, ranked.session, sum(open_sales.is_open))

    def _rules(self, request: PageRequest, now: int) -> PageRules | None:
        rules = self.rules
        in_force = rules is not None and request.follows_rules and rules.is_active(request.surface, now)
        return rules if in_force else None

    def _mixed(
        self,
        request: PageRequest,
        own: list[Pick],
        second: Iterable[Pick],
        is_open: list[bool],
        wanted: int,
        request_id: str,
    ) -> Mixed:
        """Return a page that chance takes part in; the same request is answered with the same one again."""
        random = Random(request_id)
        if request.interleaved is not None:
            others = list(islice((pick for pick in second if is_open[pick[0]]), self.snapshot.k))
            return interleaved(own, others, wanted, request.interleaved, request.policy, random)
        if request.exploration is not None and own:
            return drawn(own, wanted, request.exploration, random)
        return NOT_MIXED

    def _admitted(self, request: PageRequest, is_open: list[bool]) -> list[bool]:
        if not (request.allowed or request.denied):
            return is_open
        at = self._position
        admitted = list(is_open)
        if request.allowed:
            admitted = [False] * len(is_open)
            for sale in (at[sale_id] for sale_id in request.allowed if sale_id in at):
                admitted[sale] = is_open[sale]
        for sale in (at[sale_id] for sale_id in request.denied if sale_id in at):
            admitted[sale] = False
        return admitted

    def _fallback(
        self, request: PageRequest, open_sales: OpenSales, is_open: list[bool], ranked: _Ranked
    ) -> tuple[list[Pick], pb.FallbackLevel, str]:
        """Return the sales of the nearest ranking that has an open one, its level, and why it is taken."""
        why = ranked.why_not or sentences.NONE_OF_HIS_OPEN
        for attribute, value in self._segments(request):
            of_segment = self._doorkeeper.segment((attribute, value), open_sales)
            if found := [pick for pick in of_segment if is_open[pick[0]]]:
                return found, pb.FALLBACK_LEVEL_SEGMENT, f"{why} {sentences.popular_with(attribute, value)}"
        if found := [pick for pick in open_sales.popular if is_open[pick[0]]]:
            return found, pb.FALLBACK_LEVEL_POPULAR, f"{why} {sentences.POPULAR_SHOWN}"
        unranked = [pick for pick in open_sales.unranked if is_open[pick[0]]]
        return unranked, pb.FALLBACK_LEVEL_ANY_OPEN, sentences.NO_RANKED_OPEN

    def _segments(self, request: PageRequest) -> Iterable[tuple[str, str]]:
        known = self.snapshot.segments
        return ((attribute, request.attributes[attribute]) for attribute in known if attribute in request.attributes)

    def _filled(
        self, own: list[Pick], request: PageRequest, open_sales: OpenSales, is_open: list[bool], wanted: int
    ) -> list[Pick]:
        """Return the own picks, and as many of the segments' and the popular sales as are wanted."""
        seen = {pick[0] for pick in own}
        segments = (self._doorkeeper.segment(segment, open_sales) for segment in self._segments(request))
        # Scores of another policy have another unit: none is better than one that looks like a probability.
        popular: Iterable[Pick] = (
            (sale, None, self._popularity_reason, cover) for sale, _, _, cover in chain(*segments, open_sales.popular)
        )
        filled = list(own)
        for pick in chain(popular, open_sales.unranked):
            if len(filled) >= wanted:
                break
            if is_open[pick[0]] and pick[0] not in seen:
                seen.add(pick[0])
                filled.append(pick)
        return filled

    def _arranged(self, page: Page, arranged: ArrangedPage, mixed: Mixed) -> Page:
        known = {pick[0]: pick for pick in page.picks}
        shown = [known.get(sale) or (sale, None, self._open_reason, 0) for sale in arranged.sales]
        notes = [*page.notes, *arranged.notes]
        page = page._replace(picks=shown, rule_at=arranged.rules, rules=arranged.applied, notes=notes)
        propensities = None if arranged.applied else mixed.propensities_of(shown)
        return page._replace(propensities=propensities, teams=mixed.teams_of(shown))

    def _explained(self, page: Page, request: PageRequest, session: SessionRanking | None, n_open: int) -> Page:
        if session is not None:
            page = page._replace(picks=session.explained(page.picks))
            if request.explain and page.level == pb.FALLBACK_LEVEL_NONE:
                page = page._replace(contributions=session.contributions(page.picks))
        if len(page.picks) < request.n:
            restricted = bool(request.allowed or request.denied) or len(page.picks) < n_open
            page = page._replace(shortfall=sentences.shortfall(len(page.picks), n_open, restricted))
        return page

    def _encoded(self, page: Page, request: PageRequest, now: int, request_id: str) -> bytes:
        extras: Sequence[bytes] = ()
        if page.rules or page.contributions:
            extras = [_extras(page, place) for place in range(len(page.picks))]
        sales = self._writer.written(page.picks, is_meta(page.policy), extras)
        end = wire.end(page.level, request_id, now)
        if page.why or page.shortfall or page.uses_session or page.rules or page.notes:
            end += pb.GetTopSalesResponse(
                fallback_reason=page.why,
                shortfall_reason=page.shortfall,
                uses_session=page.uses_session,
                rules=page.rules,
                notes=page.notes,
            ).SerializeToString()
        if request.assignment is not None and (assignment := page.assignment(request)):
            end += _assignment(assignment)
        return wire.response([self._heads[page.policy], *sales, end])


def _session_ranker(snapshot: Snapshot) -> tuple[SessionRanker | None, str]:
    """Return what ranks sessions, or why there is nothing that does."""
    try:
        return SessionRanker(snapshot), ""
    except SnapshotError as error:
        return None, str(error)


def _extras(page: Page, place: int) -> bytes:
    rule = page.rule_at[place] if page.rule_at else None
    added = page.contributions[place] if page.contributions else {}
    contributions = [pb.Contribution(feature=feature, log_odds=value) for feature, value in added.items()]
    return pb.RankedSale(rule=rule or "", contributions=contributions).SerializeToString()


def _model_version(snapshot: Snapshot, policy: str) -> str:
    return version_in(policy) or snapshot.versions.get(MODEL, "")


def _assignment(assigned: Assignment) -> bytes:
    experiment, phase, variant, _, reason, _ = assigned
    side = pb.Assignment(experiment=experiment, phase=phase, variant=variant, reason=reason)
    return pb.GetTopSalesResponse(assignment=side).SerializeToString()


def _static_part(sale: SnapshotSale) -> bytes:
    entry = pb.RankedSale(sale_id=sale.sale_id, title=sale.title, price=sale.price)
    _set(entry.open_time, to_micros(sale.opens_at))
    _set(entry.close_time, to_micros(sale.closes_at))
    return entry.SerializeToString()


def _head(snapshot: Snapshot, policy: str) -> bytes:
    version = _model_version(snapshot, policy)
    head = pb.GetTopSalesResponse(policy=policy, model_version=version, snapshot=snapshot.name)
    _set(head.as_of_time, to_micros(snapshot.as_of))
    return head.SerializeToString()


def _set(timestamp: Timestamp, micros: int) -> None:
    timestamp.seconds, rest = divmod(micros, 1_000_000)
    timestamp.nanos = rest * 1000
