"""Decides which sales are open, for every path that shows a sale."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.instants import to_micros
from recsys.snapshot.format import POPULARITY, Ranking, Snapshot
from serving.answers.pages import Pick
from serving.stores.base import WithdrawnSale

_INSTANTS = 4  # lists that are kept: pages are asked for the present, and mails for instants to come

AttributeValue = tuple[str, str]
"""A segment of users: an attribute and its value."""


@dataclass(frozen=True)
class OpenSales:
    """The sales that are open, and neither closed nor hidden by staff, at every instant of [since, until)."""

    since: int
    until: int
    version: int
    """The version of the withdrawn sales that this was computed from."""
    all_popular: list[Pick]
    """The popularity ranking that this was computed from."""
    is_open: list[bool]
    """For each of the snapshot's sales whether it is open."""
    popular: list[Pick]
    """The open sales of the popularity ranking, best first."""
    unranked: list[Pick]
    """The other open sales, in the order of their closing."""
    segments: dict[AttributeValue, list[Pick]] = field(default_factory=dict)
    """The open sales of each segment requested so far, best first."""


class OpenSalesFinder:
    """Finds the open sales of a snapshot at an instant; safe for concurrent use by threads.

    Args:
        snapshot: Its sales.
        unranked_reason: Position of the reason of sales that no ranking holds.
        version: Returns a number that changes whenever `withdrawn` does.
        withdrawn: Returns the withdrawn sales by id.
        popular: Returns the popularity ranking as of an instant, live or not, or as the service's settings say (None);
            the same list for a second or longer.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        unranked_reason: int,
        version: Callable[[], int],
        withdrawn: Callable[[], Mapping[str, WithdrawnSale]],
        popular: Callable[[int, bool | None], list[Pick]],
    ):
        self._snapshot = snapshot
        self._version = version
        self._withdrawn = withdrawn
        self._popular = popular
        self._unranked = _unranked_sales(snapshot, unranked_reason)
        self._edges = {*snapshot.opens_at.tolist(), *snapshot.closes_at.tolist()}
        self._position = {sale.sale_id: position for position, sale in enumerate(snapshot.sales)}
        as_of = to_micros(snapshot.as_of)
        self._found: tuple[OpenSales, ...] = (self._open_at(as_of, version(), popular(as_of, None)),)

    def open_at(self, now: int, is_live: bool | None = None) -> OpenSales:
        """Return the open sales at an instant.

        Args:
            now: Microseconds since 1970 UTC.
            is_live: Whether the popular ones are ranked as of the present; by default as the service's settings say.
        """
        # Sales open and close a few hundred times a day: in between, all requests share one list.
        version, popular = self._version(), self._popular(now, is_live)
        for found in self._found:
            if found.since <= now < found.until and found.version == version and found.all_popular is popular:
                return found
        found = self._open_at(now, version, popular)
        self._found = (found, *self._found[: _INSTANTS - 1])
        return found

    def segment(self, segment: AttributeValue, open_sales: OpenSales) -> list[Pick]:
        """Return the open sales of a segment, best first; empty for a segment without a ranking."""
        found = open_sales.segments.get(segment)
        if found is None:
            attribute, value = segment
            ranking = self._snapshot.segments.get(attribute, {}).get(value)
            if ranking is None:
                return []  # not cached: a request may name any value, and the cache must not grow without limit
            found = open_sales.segments[segment] = [pick for pick in picks(ranking) if open_sales.is_open[pick[0]]]
        return found

    def _open_at(self, now: int, version: int, popular: list[Pick]) -> OpenSales:
        opens_at, closes_at = self._snapshot.opens_at, self._snapshot.closes_at
        withdrawn = self._withdrawn()  # read after its version: a change in between is noticed at the next request
        is_open: NDArray[np.bool_] = (opens_at <= now) & (now < closes_at)
        edges = set(self._edges)
        for sale_id, sale in withdrawn.items():
            if sale.until is not None:
                edges.add(sale.until)
            if sale_id in self._position and sale.is_withdrawn(now):
                is_open[self._position[sale_id]] = False
        flags = is_open.tolist()
        return OpenSales(
            since=max((edge for edge in edges if edge <= now), default=-(1 << 63)),
            until=min((edge for edge in edges if edge > now), default=1 << 63),
            version=version,
            is_open=flags,
            all_popular=popular,
            popular=[pick for pick in popular if flags[pick[0]]],
            unranked=[pick for pick in self._unranked if flags[pick[0]]],
        )


def picks(ranking: Ranking) -> list[Pick]:
    """Return a ranking as picks."""
    sales, scores, reasons, covers = ranking
    return list(zip(sales.tolist(), scores.tolist(), reasons.tolist(), covers.tolist(), strict=True))


def _unranked_sales(snapshot: Snapshot, reason: int) -> list[Pick]:
    popular = snapshot.shared_rankings[POPULARITY].sales
    others: NDArray[np.int64] = np.setdiff1d(np.arange(len(snapshot.sales)), popular)
    soonest: Iterable[int] = others[np.argsort(snapshot.closes_at[others], kind="stable")].tolist()
    return [(sale, None, reason, 0) for sale in soonest]
