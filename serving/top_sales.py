"""Answers home pages from one snapshot; what does not depend on the request is built when it is loaded."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray
from recommendations.v1 import recommendations_pb2 as pb

from recsys.errors import ConfigurationError
from recsys.instants import to_micros
from recsys.snapshot import POPULARITY, Ranking, Snapshot, SnapshotSale
from serving import sentences

MODEL = "home_ranker"
OPEN_REASON = "open"

Pick = tuple[int, float | None, int, int]
"""Position of a sale, what the policy thinks of it, position of the reason, position of the photo."""


class OpenSales(NamedTuple):
    """Which sales are open at every instant of [since, until)."""

    since: int
    until: int
    is_open: list[bool]
    popular: list[Pick]
    """The open sales of the popularity ranking, best first."""
    unranked: list[Pick]
    """The other open sales, the soonest to close first."""


class TopSales:
    """Ranks open sales by one snapshot; any number of threads may ask."""

    def __init__(self, snapshot: Snapshot):
        self.snapshot = snapshot
        self._shared = {policy: list(_picks(ranking)) for policy, ranking in snapshot.shared_rankings.items()}
        self._reasons = [sentences.reason(name) for name in (*snapshot.reasons, POPULARITY, OPEN_REASON)]
        self._popularity_reason = len(snapshot.reasons)
        self._unranked = _unranked(snapshot, reason=self._popularity_reason + 1)
        self._edges = np.unique(np.concatenate([snapshot.opens_at, snapshot.closes_at]))
        self._sales = [_static_part(sale) for sale in snapshot.sales]
        self._heads = {policy: _head(snapshot, policy) for policy in snapshot.all_policies}
        self._open = self._open_during(int(self._edges[0]))

    def answer(self, user_id: str, policy: str, n: int, now: int) -> pb.GetTopSalesResponse:
        """Return the n best sales that are open at an instant.

        Args:
            user_id: Whose home page; empty for an anonymous visit.
            policy: What orders the sales.
            n: How many sales, at least 1.
            now: Microseconds since 1970 UTC.

        Raises:
            ConfigurationError: If the snapshot has no such policy.
        """
        if policy not in self._heads:
            raise ConfigurationError(f"policy == {policy!r}, must be one of {', '.join(sorted(self._heads))}")
        open_sales = self._open_at(now)
        ranked = self._ranked(policy, user_id)
        own = list(islice((pick for pick in ranked or () if open_sales.is_open[pick[0]]), n))
        if own:
            level, why = pb.FALLBACK_LEVEL_NONE, ""
            shown = self._filled(own, open_sales, n)
        elif open_sales.popular:
            policy, level, why = POPULARITY, pb.FALLBACK_LEVEL_POPULAR, _why_popular(user_id, ranked)
            shown = [*open_sales.popular, *open_sales.unranked][:n]
        else:
            policy, level, why = POPULARITY, pb.FALLBACK_LEVEL_ANY_OPEN, sentences.NO_RANKED_OPEN
            shown = open_sales.unranked[:n]
        return self._response(policy, level, why, shown, n, now)

    def _ranked(self, policy: str, user_id: str) -> Iterable[Pick] | None:
        if policy in self._shared:
            return self._shared[policy]
        ranking = self.snapshot.ranking(policy, user_id) if user_id else None
        return None if ranking is None else _picks(ranking)

    def _filled(self, own: list[Pick], open_sales: OpenSales, n: int) -> list[Pick]:
        if len(own) == n:
            return own
        seen = {pick[0] for pick in own}
        # Scores of another policy have another unit: none is better than one that looks like a probability.
        popular = ((sale, None, self._popularity_reason, cover) for sale, _, _, cover in open_sales.popular)
        others = (pick for pick in chain(popular, open_sales.unranked) if pick[0] not in seen)
        return [*own, *islice(others, n - len(own))]

    def _open_at(self, now: int) -> OpenSales:
        # Sales open and close some hundred times a day: in between, every request shares one list.
        open_sales = self._open
        if not open_sales.since <= now < open_sales.until:
            self._open = open_sales = self._open_during(now)
        return open_sales

    def _open_during(self, now: int) -> OpenSales:
        is_open = ((self.snapshot.opens_at <= now) & (now < self.snapshot.closes_at)).tolist()
        edges = [-(1 << 63), *self._edges.tolist(), 1 << 63]
        following = int(self._edges.searchsorted(now, side="right")) + 1
        return OpenSales(
            since=edges[following - 1],
            until=edges[following],
            is_open=is_open,
            popular=[pick for pick in self._shared[POPULARITY] if is_open[pick[0]]],
            unranked=[pick for pick in self._unranked if is_open[pick[0]]],
        )

    def _response(
        self, policy: str, level: pb.FallbackLevel, why: str, shown: Iterable[Pick], n: int, now: int
    ) -> pb.GetTopSalesResponse:
        response = pb.GetTopSalesResponse()
        response.CopyFrom(self._heads[policy])
        response.fallback_level = level
        response.fallback_reason = why
        _set(response.answer_time, now)
        rank = 0
        for rank, (sale, score, reason, cover) in enumerate(shown, start=1):
            entry = response.sales.add()
            entry.CopyFrom(self._sales[sale])
            entry.rank = rank
            if score is not None:
                entry.score = score
            entry.reason, entry.reason_text = self._reasons[reason]
            if cover:
                entry.image_uri = self.snapshot.sales[sale].images[cover]
        if rank < n:
            response.shortfall_reason = sentences.shortfall(rank)
        return response


def _picks(ranking: Ranking) -> Iterator[Pick]:
    sales, scores, reasons, covers = ranking
    return zip(sales.tolist(), scores.tolist(), reasons.tolist(), covers.tolist(), strict=True)


def _unranked(snapshot: Snapshot, reason: int) -> list[Pick]:
    popular = snapshot.shared_rankings[POPULARITY].sales
    others: NDArray[np.int64] = np.setdiff1d(np.arange(len(snapshot.sales)), popular)
    soonest = others[np.argsort(snapshot.closes_at[others], kind="stable")]
    return [(sale, None, reason, 0) for sale in soonest.tolist()]


def _static_part(sale: SnapshotSale) -> pb.RankedSale:
    cover = sale.images[0] if sale.images else ""
    entry = pb.RankedSale(sale_id=sale.sale_id, title=sale.title, price=sale.price, image_uri=cover)
    _set(entry.open_time, to_micros(sale.opens_at))
    _set(entry.close_time, to_micros(sale.closes_at))
    return entry


def _head(snapshot: Snapshot, policy: str) -> pb.GetTopSalesResponse:
    head = pb.GetTopSalesResponse(policy=policy, model_version=snapshot.versions.get(MODEL, ""), snapshot=snapshot.name)
    _set(head.as_of_time, to_micros(snapshot.as_of))
    return head


def _set(timestamp: Timestamp, micros: int) -> None:
    timestamp.seconds, rest = divmod(micros, 1_000_000)
    timestamp.nanos = rest * 1000


def _why_popular(user_id: str, ranked: Iterable[Pick] | None) -> str:
    if not user_id:
        return sentences.ANONYMOUS
    return sentences.UNKNOWN_USER if ranked is None else sentences.NONE_OF_HIS_OPEN
