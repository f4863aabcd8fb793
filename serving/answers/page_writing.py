"""Serialises pages as `GetTopSalesResponse` bytes; parts that all requests share are serialised once per snapshot."""

from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from recommendations.v1 import recommendations_pb2 as pb

from recsys.config.serving import PageSettings
from recsys.instants import to_micros
from recsys.logs.records import Assignment
from recsys.meta_model import is_meta
from recsys.snapshot.format import Snapshot, SnapshotSale
from serving.answers import wire
from serving.answers.pages import ServedPage
from serving.answers.reason_texts import Languages, ReasonTexts


class PageWriter:
    """Serialises pages of one snapshot; safe for concurrent use by threads.

    Args:
        snapshot: Its sales.
        reasons: The names that picks refer to by position, such as `own_visits`.
        model_versions: For each policy of the snapshot, the version of the model that it ranks by.
        settings: The sentences of the shop, its language and its currency.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        reasons: Iterable[str],
        model_versions: Mapping[str, str],
        settings: PageSettings,
    ):
        currency, has_visits = settings.currency or "", snapshot.manifest.n_visits != 0
        self._heads = {policy: _head(snapshot, policy, version, currency) for policy, version in model_versions.items()}
        self._languages, names = Languages(settings), list(reasons)
        parts = [_static_part(sale) for sale in snapshot.sales]
        images = [[wire.image(uri) for uri in sale.images] or [b""] for sale in snapshot.sales]
        texts = {
            language: ReasonTexts(snapshot, self._languages.wording(language, has_visits))
            for language in self._languages.names
        }
        self._writers = {
            language: wire.SaleWriter(parts, images, [wire.reason(*each.reason(name)) for name in names])
            for language, each in texts.items()
        }

    def write(
        self, page: ServedPage, assignment: Assignment | None, now: int, request_id: str, language: str = ""
    ) -> bytes:
        """Return a page as a serialised `GetTopSalesResponse`.

        Args:
            page: With its reasons and photos.
            assignment: The experiment and variant that the page counts for.
            now: Microseconds since 1970 UTC.
            request_id: The id of the answer.
            language: Of the reasons; empty for the shop's, which also stands in for one without sentences.
        """
        writer = self._writers[self._languages.chosen(language) if language else self._languages.default]
        extras: Sequence[bytes] = ()
        if page.rules or page.contributions:
            extras = [_extras(page, index) for index in range(len(page.picks))]
        sales = writer.written(page.picks, is_meta(page.policy), extras)
        end = wire.end(page.level, request_id, now)
        if page.why or page.shortfall or page.uses_session or page.rules or page.notes:
            end += pb.GetTopSalesResponse(
                fallback_reason=page.why,
                shortfall_reason=page.shortfall,
                uses_session=page.uses_session,
                rules=page.rules,
                notes=page.notes,
            ).SerializeToString()
        if assignment is not None and assignment.experiment:  # there is none with the kill switch
            end += _assignment(assignment)
        return wire.response([self._heads[page.policy], *sales, end])


def _extras(page: ServedPage, index: int) -> bytes:
    """Serialise the fields that few requests need: the rule and the contributions of one sale of the page."""
    rule = page.rule_at[index] if page.rule_at else None
    log_odds = page.contributions[index] if page.contributions else {}
    contributions = [pb.Contribution(feature=feature, log_odds=value) for feature, value in log_odds.items()]
    return pb.RankedSale(rule=rule or "", contributions=contributions).SerializeToString()


def _assignment(assigned: Assignment) -> bytes:
    experiment, phase, variant, _, reason, _ = assigned
    side = pb.Assignment(experiment=experiment, phase=phase, variant=variant, reason=reason)
    return pb.GetTopSalesResponse(assignment=side).SerializeToString()


def _static_part(sale: SnapshotSale) -> bytes:
    entry = pb.RankedSale(sale_id=sale.sale_id, title=sale.title, price=sale.price)
    _set(entry.open_time, to_micros(sale.opens_at))
    _set(entry.close_time, to_micros(sale.closes_at))
    return entry.SerializeToString()


def _head(snapshot: Snapshot, policy: str, model_version: str, currency: str) -> bytes:
    head = pb.GetTopSalesResponse(policy=policy, model_version=model_version, snapshot=snapshot.name, currency=currency)
    _set(head.as_of_time, to_micros(snapshot.as_of))
    return head.SerializeToString()


def _set(timestamp: Timestamp, micros: int) -> None:
    timestamp.seconds, rest = divmod(micros, 1_000_000)
    timestamp.nanos = rest * 1000
