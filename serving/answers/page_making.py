"""Makes a page from a ranking: at most n open sales, ordered by the ranking, the experiment and the shop's rules."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from random import Random

from recommendations.v1 import recommendations_pb2 as pb

from recsys.errors import ConfigurationError
from recsys.rules import ArrangedPage, PageRules
from recsys.snapshot.format import OPEN, POPULARITY, Snapshot, SnapshotSale
from recsys.wording import did_you_mean
from serving.answers import sentences
from serving.answers.mixing import NOT_MIXED, Mixed, drawn, interleaved
from serving.answers.open_sales import OpenSales, OpenSalesFinder
from serving.answers.pages import AttributeFilter, PageRequest, Pick, ServedPage
from serving.answers.ranking_choice import ChosenRanking


class PageMaker:
    """Makes pages of one snapshot's sales; safe for concurrent use by threads.

    Args:
        snapshot: The snapshot that holds the rankings.
        finder: Finds the open sales of segments.
        popularity_reason: Position of the reason of popular sales that fill a page up.
        open_reason: Position of the reason of open sales that no ranking holds.
    """

    def __init__(self, snapshot: Snapshot, finder: OpenSalesFinder, popularity_reason: int, open_reason: int):
        self._k = snapshot.k or len(snapshot.sales)  # a night without a model has shared rankings only
        self._reasons = snapshot.reasons
        self._attributes = tuple(snapshot.segments)
        self._position = {sale.sale_id: position for position, sale in enumerate(snapshot.sales)}
        self._of_value = _sales_by_value(snapshot.sales)
        self._finder = finder
        self._popularity_reason = popularity_reason
        self._open_reason = open_reason

    def make(
        self,
        request: PageRequest,
        ranking: ChosenRanking,
        open_sales: OpenSales,
        rules: PageRules | None,
        now: int,
        request_id: str,
    ) -> ServedPage:
        """Return a page without its explanations.

        Args:
            request: The validated request.
            ranking: The ranking that was chosen for it.
            open_sales: The sales that are open at `now`.
            rules: The shop's rules; ignored where the request does not follow them.
            now: Microseconds since 1970 UTC.
            request_id: The seed of a randomised page, so that a retry of a request is answered with the same page.
        """
        is_allowed = self._allowed(request, open_sales.is_open)
        if rules is not None and not (request.follows_rules and rules.is_active(request.surface, now)):
            rules = None
        shown_last = sorted(sale for sale in ranking.bought if is_allowed[sale]) if ranking.bought else ()
        may_pin, is_allowed = is_allowed, _without(is_allowed, shown_last)
        wanted = request.n if rules is None else len(is_allowed)
        has_chance = request.exploration is not None or request.interleaved is not None
        drawn_from = max(self._k, request.n) if has_chance else 0
        own = ranked = list(islice((pick for pick in ranking.picks if is_allowed[pick[0]]), max(wanted, drawn_from)))
        n_ranked, mixed = len(own), NOT_MIXED
        if has_chance:
            second = list(islice((pick for pick in ranking.second if is_allowed[pick[0]]), drawn_from))
            if request.interleaved is not None:
                ranked, n_ranked = own + second, min(n_ranked, len(second))
            mixed = _mix(request, own[:drawn_from], second, wanted, Random(request_id))
            mixed_sales = {pick[0] for pick in mixed.picks}
            own = [*mixed.picks, *(pick for pick in own if pick[0] not in mixed_sales)][:wanted]
        if own:
            policy, level, why = request.policy, pb.FALLBACK_LEVEL_NONE, ""
        else:
            own, level, why = self._fallback(request, open_sales, is_allowed, ranking.why_not)
            policy, own = POPULARITY, own[:wanted]
        picks = own if len(own) == wanted else self._filled_up(own, request, open_sales, is_allowed, wanted)
        page = ServedPage(
            policy,
            level,
            why,
            picks,
            uses_session=ranking.session is not None and ranking.session.visits > 0,
            notes=[ranking.why_not] if ranking.why_not and not why else [],
            exceeds_ranking=n_ranked < len(picks),
        )
        if shown_last:
            picks = [*picks, *((sale, None, self._open_reason, 0) for sale in shown_last)][:wanted]
            page = page._replace(picks=picks, notes=[*page.notes, sentences.JUST_BOUGHT])
        if request.filters:
            page = page._replace(notes=[*page.notes, *self._notes_of_filters(request.filters)])
        if has_chance:
            page = page._replace(propensities=mixed.propensities_of(picks), teams=mixed.teams_of(picks))
        if rules is None:
            return page
        arranged = rules.arrange(
            [pick[0] for pick in picks], may_pin, request.n, request.surface, request.attributes, now
        )
        if page.exceeds_ranking:
            known = {pick[0] for pick in ranked} | arranged.pinned
            is_reached = arranged.reach > 0 and n_ranked - arranged.reach < request.n
            page = page._replace(exceeds_ranking=is_reached or not known.issuperset(arranged.sales))
        return self._arranged(page, arranged, mixed)

    def _allowed(self, request: PageRequest, is_open: list[bool]) -> list[bool]:
        """Return for each sale whether the page may show it: it is open, and the request's lists allow it."""
        if not (request.allowed or request.denied or request.filters):
            return is_open
        at = self._position
        is_allowed = list(is_open)
        if request.allowed:
            is_allowed = [False] * len(is_open)
            for sale in (at[sale_id] for sale_id in request.allowed if sale_id in at):
                is_allowed[sale] = is_open[sale]
        for sale in (at[sale_id] for sale_id in request.denied if sale_id in at):
            is_allowed[sale] = False
        for attribute, values, exclude in request.filters:
            of_value = self._of_value[attribute]
            matching = {sale for value in values for sale in of_value.get(value, ())}
            is_allowed = [may and ((sale in matching) is not exclude) for sale, may in enumerate(is_allowed)]
        return is_allowed

    def check_filters(self, filters: Sequence[AttributeFilter]) -> None:
        """Check that some sale of the snapshot has each attribute.

        Raises:
            ConfigurationError: Naming the attribute, those that sales have, and the nearest one.
        """
        for attribute, _, _ in filters:
            if attribute not in self._of_value:
                known = sorted(self._of_value)
                rule = f"must be an attribute of the snapshot's sales: {', '.join(known) or 'they have none'}"
                raise ConfigurationError(f"filters.attribute == {attribute!r}, {rule}{did_you_mean(attribute, known)}")

    def _notes_of_filters(self, filters: Sequence[AttributeFilter]) -> Iterator[str]:
        for attribute, values, _ in filters:
            if not (known := self._of_value[attribute]).keys() & values:
                yield sentences.no_sale_has(attribute, values, known)

    def _fallback(
        self, request: PageRequest, open_sales: OpenSales, is_allowed: list[bool], why_not: str
    ) -> tuple[list[Pick], pb.FallbackLevel, str]:
        """Return the sales of the first fallback that has any to show, its level, and the reason."""
        why = why_not or sentences.NO_SALE_OF_RANKING
        for attribute, value in self._segments(request):
            popular = self._finder.segment((attribute, value), open_sales)
            if found := [pick for pick in popular if is_allowed[pick[0]]]:
                return found, pb.FALLBACK_LEVEL_SEGMENT, f"{why} {sentences.popular_with(attribute, value)}"
        if found := [pick for pick in open_sales.popular if is_allowed[pick[0]]]:
            is_popular = self._reasons[found[0][2]] != OPEN
            shown = sentences.POPULAR_SHOWN if is_popular else sentences.YOUNGEST_SHOWN
            return found, pb.FALLBACK_LEVEL_POPULAR, f"{why} {shown}"
        unranked = [pick for pick in open_sales.unranked if is_allowed[pick[0]]]
        return unranked, pb.FALLBACK_LEVEL_ANY_OPEN, sentences.NO_RANKED_OPEN

    def _segments(self, request: PageRequest) -> Iterable[tuple[str, str]]:
        asked = request.attributes
        return ((attribute, asked[attribute]) for attribute in self._attributes if attribute in asked)

    def _filled_up(
        self, own: list[Pick], request: PageRequest, open_sales: OpenSales, is_allowed: list[bool], wanted: int
    ) -> list[Pick]:
        """Return the page's own picks, filled up with the segments' and the popular sales to at most `wanted`."""
        seen = {pick[0] for pick in own}
        segments = (self._finder.segment(segment, open_sales) for segment in self._segments(request))
        # Scores of another policy have another unit: no score is better than one that looks like a probability.
        popular: Iterable[Pick] = (
            (sale, None, self._popularity_reason, cover) for sale, _, _, cover in chain(*segments, open_sales.popular)
        )
        filled = list(own)
        for pick in chain(popular, open_sales.unranked):
            if len(filled) >= wanted:
                break
            if is_allowed[pick[0]] and pick[0] not in seen:
                seen.add(pick[0])
                filled.append(pick)
        return filled

    def _arranged(self, page: ServedPage, arranged: ArrangedPage, mixed: Mixed) -> ServedPage:
        """Return the page as the rules arranged it."""
        known = {pick[0]: pick for pick in page.picks}
        picks = [known.get(sale) or (sale, None, self._open_reason, 0) for sale in arranged.sales]
        return page._replace(
            picks=picks,
            rule_at=arranged.rules,
            rules=arranged.applied,
            notes=[*page.notes, *arranged.notes],
            propensities=None if arranged.applied else mixed.propensities_of(picks),
            teams=mixed.teams_of(picks),
        )


def _without(is_allowed: list[bool], sales: Sequence[int]) -> list[bool]:
    if not sales:
        return is_allowed
    others = list(is_allowed)
    for sale in sales:
        others[sale] = False
    return others


def _sales_by_value(sales: Sequence[SnapshotSale]) -> Mapping[str, Mapping[str, list[int]]]:
    """Return the positions of the sales with each value of each attribute, `theme` included."""
    found: dict[str, dict[str, list[int]]] = {}
    for position, sale in enumerate(sales):
        theme = {} if sale.theme is None else {"theme": sale.theme}
        for attribute, value in (theme | dict(sale.attributes)).items():
            found.setdefault(attribute, {}).setdefault(value, []).append(position)
    return found


def _mix(request: PageRequest, own: list[Pick], second: list[Pick], wanted: int, random: Random) -> Mixed:
    """Return an interleaved or explored page; NOT_MIXED where there is nothing to draw from."""
    if request.interleaved is not None:
        return interleaved(own, second, wanted, request.interleaved, request.policy, random)
    if request.exploration is not None and own:
        return drawn(own, wanted, request.exploration, random)
    return NOT_MIXED
