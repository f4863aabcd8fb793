"""Passes each answer to the exposure log and the metrics, and a failed ranking to the service's log."""

from time import perf_counter

from recommendations.v1 import recommendations_pb2 as pb

from recsys.logs.records import Assignment, Exposure
from serving.answers.pages import PageRequest, ServedPage
from serving.answers.top_sales import Answer, TopSales
from serving.telemetry.failures import RankingFailures
from serving.telemetry.metrics import Metrics
from serving.telemetry.record_log import RecordLog

_LEVELS = {
    value.number: value.name.removeprefix("FALLBACK_LEVEL_").lower() for value in pb.FallbackLevel.DESCRIPTOR.values
}

_NO_ATTRIBUTES: dict[str, str] = {}


class Recorder:
    """Records the answers of one process; safe for concurrent use by threads."""

    def __init__(self, exposures: RecordLog[Exposure] | None, metrics: Metrics):
        self._exposures = exposures
        self._metrics = metrics
        self._failures = RankingFailures(metrics)

    def answer(
        self, request: PageRequest, answer: Answer, top_sales: TopSales, now: int, request_id: str, started: float
    ) -> None:
        """Record an answer before it is sent.

        Raises:
            NotRecordedError: If the exposure log is durable and cannot be written.
        """
        ranked = perf_counter()
        page = answer.page
        if answer.failure is not None:
            self._failures.note(answer.failure, request.user_id, request_id)
        level = _LEVELS[page.level]
        if self._exposures is not None:
            self._exposures.append(_exposure(request, page, top_sales, now, request_id, level))
        variant = _variant_label(request.assignment) if request.assignment else ""
        self._metrics.answered((page.policy, level, variant, ranked - started, perf_counter() - ranked))


def _variant_label(assigned: Assignment) -> str:
    return f"{assigned.experiment}/{assigned.variant}" if assigned.experiment else ""  # none with the kill switch


def _exposure(
    request: PageRequest, page: ServedPage, top_sales: TopSales, now: int, request_id: str, level: str
) -> Exposure:
    snapshot = top_sales.snapshot
    return Exposure(
        now,
        request_id,
        request.user_id,
        request.surface,
        page.policy,
        top_sales.model_versions[page.policy],
        snapshot.name,
        level,
        request.n,
        page.picks,
        top_sales.sale_ids,
        dict(request.attributes) if request.attributes else _NO_ATTRIBUTES,
        tuple(visit.sale_id for visit in request.session) if page.uses_session else (),
        tuple(page.rules),
        page.assignment(request),
        page.propensities,
        page.overlap_at_10,
        page.teams,
    )
