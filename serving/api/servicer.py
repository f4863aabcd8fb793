"""The methods of `recommendations.v1.Recommendations`: check the request, answer it, record it."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from random import Random
from time import perf_counter

import grpc
from recommendations.v1 import recommendations_pb2 as pb
from recommendations.v1 import recommendations_pb2_grpc as pb_grpc

from recsys.config.serving import ServingSettings
from recsys.errors import ConfigurationError, StoreError
from recsys.instants import SECOND
from recsys.logs.records import RecordedEvent
from serving.answers import wire
from serving.answers.pages import Visit
from serving.answers.top_sales import TopSales
from serving.api.requests import check_count, page_request, recorded_events
from serving.clocks import Clock
from serving.stores.base import SessionEvent, Store
from serving.telemetry.metrics import Metrics
from serving.telemetry.record_log import RecordLog
from serving.telemetry.recorder import Recorder
from serving.telemetry.troubles import Troubles

SESSIONS = "sessions"


class RecommendationsServicer(pb_grpc.RecommendationsServicer):
    """Answers requests from the snapshot that is served at that moment.

    Args:
        settings: The service's settings.
        served: Returns the state to answer from; raises SnapshotError while no snapshot is loaded.
        clock: Returns the present time.
        store: The store of running sessions.
        recorder: Records the answers.
        events: The durable log of recorded events.
        metrics: The metrics of the process.
        troubles: The current problems of the process.
    """

    def __init__(
        self,
        settings: ServingSettings,
        served: Callable[[], TopSales],
        clock: Clock,
        store: Store,
        recorder: Recorder,
        events: RecordLog[RecordedEvent],
        metrics: Metrics,
        troubles: Troubles,
    ):
        self._settings = settings
        self._served = served
        self._clock = clock
        self._store = store
        self._recorder = recorder
        self._events = events
        self._metrics = metrics
        self._troubles = troubles
        self._store_is_remote = settings.store.kind != "folder"
        self._random = Random()  # created after the fork: each process draws other numbers
        self._session_span = int(settings.session.minutes * 60 * SECOND)

    def GetTopSales(self, request: pb.GetTopSalesRequest, context: grpc.ServicerContext) -> bytes:  # noqa: N802
        """Return one page as bytes."""
        return self._answer_page(request, context)

    def BatchGetTopSales(self, request: pb.BatchGetTopSalesRequest, context: grpc.ServicerContext) -> bytes:  # noqa: N802
        """Return many pages as bytes."""
        check_count("requests", len(request.requests), self._settings.limits.max_batch)
        pages = []
        for number, each in enumerate(request.requests):
            try:
                pages.append(self._answer_page(each, context))
            except ConfigurationError as error:
                raise ConfigurationError(f"requests[{number}].{error}") from None
        return wire.batch(pages)

    def RecordEvents(  # noqa: N802
        self,
        request: pb.RecordEventsRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.RecordEventsResponse:
        """Write events to the log, and add them to their users' sessions."""
        events = recorded_events(request, self._clock(), self._settings.limits)
        self._events.append_all(events)
        sessions: dict[str, list[SessionEvent]] = defaultdict(list)
        for event in events:
            sessions[event.user_id].append(SessionEvent(event.sale_id, event.kind == "purchase", event.occurred_at))
            self._metrics.events.labels(event.kind).inc()
        try:
            self._store.add_to_sessions(sessions)
            self._troubles.clear(SESSIONS)
        except StoreError as error:  # the events are logged for the nightly run; only the session is lost
            self._troubles.note(SESSIONS, str(error))
        return pb.RecordEventsResponse(recorded=len(events))

    def _answer_page(self, message: pb.GetTopSalesRequest, context: grpc.ServicerContext) -> bytes:
        started = perf_counter()
        request = page_request(message, self._settings.default_policy, self._settings.limits)
        request_id = message.request_id = message.request_id or self._new_request_id()
        top_sales = self._served()
        now = self._clock()
        if top_sales.experiments is not None and not message.policy:
            request = top_sales.experiments.assigned_request(request, now)
        is_urgent = self._store_is_remote and self._is_urgent(context)
        if request.user_id and not request.session and not is_urgent:
            request = request._replace(session=self._session(request.user_id, now, top_sales.as_of))
        is_urgent = is_urgent or (bool(request.session or request.explain) and self._is_urgent(context))
        answer = top_sales.answer(request, now, request_id, is_urgent)
        while (sent := self._clock()) >= top_sales.open_sales(now).until:  # a sale opened or closed meanwhile
            self._metrics.redone.inc()
            now = sent
            answer = top_sales.answer(request, now, request_id, is_urgent)
        self._recorder.answer(request, answer, top_sales, now, request_id, started)
        return answer.written

    def _session(self, user_id: str, now: int, as_of: int) -> Sequence[Visit]:
        """Return the user's recent events since `as_of`; earlier ones are in their history."""
        try:
            events = self._store.session(user_id, max(now - self._session_span, as_of))
        except StoreError as error:
            self._troubles.note(SESSIONS, str(error))
            return ()
        self._troubles.clear(SESSIONS)
        latest = events[-self._settings.session.max_sales :]
        return [Visit(event.sale_id, event.is_purchase) for event in latest]

    def _is_urgent(self, context: grpc.ServicerContext) -> bool:
        left = context.time_remaining()
        return left is not None and left * 1000 < self._settings.spare_milliseconds

    def _new_request_id(self) -> str:
        return f"{self._random.getrandbits(96):024x}"
