"""The methods of `recommendations.v1.Recommendations`: check the request, answer it, record it."""

from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Container
from contextlib import AbstractContextManager
from functools import partial
from secrets import token_hex
from time import perf_counter

import grpc
from recommendations.v1 import recommendations_pb2 as pb
from recommendations.v1 import recommendations_pb2_grpc as pb_grpc

from recsys.config.serving import ServingSettings
from recsys.errors import ConfigurationError, SnapshotError, StoreError
from recsys.instants import HOUR, SECOND
from recsys.logs.records import RecordedEvent
from serving.answers import wire
from serving.answers.pages import PageRequest, Visit
from serving.answers.top_sales import TopSales
from serving.api.requests import check_count, checked_events, page_instant, page_request, previewed, similar_request
from serving.api.turns import Turns
from serving.clocks import Clock, system_clock
from serving.errors import CallerLeftError
from serving.stores.base import SessionEvent, Store
from serving.telemetry.metrics import Metrics
from serving.telemetry.record_log import RecordLog
from serving.telemetry.recorder import Recorder
from serving.telemetry.troubles import Troubles

SESSIONS = "sessions"
Turn = Callable[[], AbstractContextManager[None]]


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
        turns: Whose page is made next.
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
        turns: Turns,
    ):
        self._settings = settings
        self._served = served
        self._clock = clock
        self._store = store
        self._recorder = recorder
        self._events = events
        self._metrics = metrics
        self._troubles = troubles
        self._turns = turns
        self._store_is_remote = settings.store.kind != "folder"
        self._session_span = int(settings.session.minutes * 60 * SECOND)
        self._just_bought_span = int((settings.pages.just_bought_hours or 0) * HOUR)

    def GetTopSales(self, request: pb.GetTopSalesRequest, context: grpc.ServicerContext) -> bytes:  # noqa: N802
        """Return one page as bytes."""
        asked = page_request(request, self._settings.default_policy, self._settings.limits)
        return self._answer_page(request, asked, context, self._turns.page)

    def GetSimilarSales(self, request: pb.GetSimilarSalesRequest, context: grpc.ServicerContext) -> bytes:  # noqa: N802
        """Return a page of sales that resemble one, as bytes."""
        asked = similar_request(request, self._settings.default_policy, self._settings.limits)
        return self._answer_page(request.page, asked, context, self._turns.page)

    def BatchGetTopSales(self, request: pb.BatchGetTopSalesRequest, context: grpc.ServicerContext) -> bytes:  # noqa: N802
        """Return many pages as bytes."""
        limits, pages, size = self._settings.limits, [], 0
        check_count("requests", len(request.requests), limits.max_batch)
        with self._turns.batch(context.is_active):
            for number, each in enumerate(request.requests):
                if not context.is_active():
                    raise CallerLeftError(f"{number} of {len(request.requests)} pages were made")
                try:
                    asked = page_request(each, self._settings.default_policy, limits)
                    pages.append(self._answer_page(each, asked, context, self._turns.page_of_batch))
                except ConfigurationError as error:
                    raise ConfigurationError(f"requests[{number}].{error}") from None
                size += len(pages[-1])
                if size > limits.max_reply_bytes:
                    raise ConfigurationError(
                        f"requests has {len(request.requests)} entries, must have at most {number}: their pages would "
                        f"exceed {limits.max_reply_bytes} bytes ('serving.limits.max_reply_bytes')"
                    )
        return wire.batch(pages)

    def RecordEvents(  # noqa: N802
        self,
        request: pb.RecordEventsRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.RecordEventsResponse:
        """Write events to the log, and add them to their users' sessions; an event that breaks a rule is refused."""
        now = self._clock()
        known = self._known_sales() if self._settings.unknown_sales == "refuse" else None
        checked = checked_events(request, now, self._settings.limits, known, behind=max(system_clock() - now, 0))
        events, refused, of_unknown_sales = checked
        self._metrics.refused_events.labels("unknown_sale").inc(of_unknown_sales)
        self._metrics.refused_events.labels("invalid").inc(len(refused) - of_unknown_sales)
        if not events:
            others = f"; all {len(refused)} events are refused" if len(refused) > 1 else ""
            raise ConfigurationError(f"{refused[0].reason}{others}")
        self._events.append_all(events)
        sessions: dict[str, list[SessionEvent]] = defaultdict(list)
        for event in events:
            sessions[event.user_id].append(SessionEvent(event.sale_id, event.kind == "purchase", event.occurred_at))
        for kind, count in Tally(event.kind for event in events).items():  # one by one, each would take 2 us
            self._metrics.events.labels(kind).inc(count)
        try:
            self._store.add_to_sessions(sessions)
            self._troubles.clear(SESSIONS)
        except StoreError as error:  # the events are logged for the nightly run; only the session is lost
            self._troubles.note(SESSIONS, str(error))
        return pb.RecordEventsResponse(recorded=len(events), refused=refused)

    def _known_sales(self) -> Container[str] | None:
        """Return the ids of the sales that the snapshot knows; None where that cannot be told."""
        try:
            return self._served().known_sales
        except SnapshotError:
            return None

    def _answer_page(
        self, message: pb.GetTopSalesRequest, request: PageRequest, context: grpc.ServicerContext, turn: Turn
    ) -> bytes:
        started = perf_counter()
        request_id = message.request_id = message.request_id or token_hex(12)
        top_sales = self._served()
        now = self._clock()
        if top_sales.experiments is not None and not message.policy:
            request = top_sales.experiments.assigned_request(request, now)
        if message.preview:
            request = previewed(request, message)
        instant = page_instant(request.answer_time, now, top_sales.horizon_end)
        if request.user_id and not (self._store_is_remote and self._is_urgent(context)):
            request = self._with_recent_events(request, now, top_sales.as_of)
        near_deadline = partial(self._is_urgent, context)
        with turn():
            answer = top_sales.answer(request, instant, request_id, near_deadline)
            while instant <= (sent := self._clock()) and sent >= answer.until:
                self._metrics.redone.inc()  # a sale opened or closed meanwhile
                now = instant = sent
                answer = top_sales.answer(request, instant, request_id, near_deadline)
        if not message.preview:
            self._recorder.answer(request, answer, top_sales, now, request_id, started)
        return answer.written

    def _with_recent_events(self, request: PageRequest, now: int, as_of: int) -> PageRequest:
        """Return the request with the user's recorded events since `as_of`; earlier ones are in their history.

        The latest are the running session, unless the request has one; purchases count for longer.
        """
        session_since, bought_since = now - self._session_span, now - self._just_bought_span
        try:
            events = self._store.session(request.user_id, max(min(session_since, bought_since), as_of))
        except StoreError as error:
            self._troubles.note(SESSIONS, str(error))
            return request
        self._troubles.clear(SESSIONS)
        if not events:
            return request
        bought = [event.sale_id for event in events if event.is_purchase and event.occurred_at >= bought_since]
        latest = [event for event in events if event.occurred_at >= session_since]
        session = [Visit(event.sale_id, event.is_purchase) for event in latest[-self._settings.session.max_sales :]]
        return request._replace(session=request.session or session, bought=bought)

    def _is_urgent(self, context: grpc.ServicerContext) -> bool:
        left = context.time_remaining()
        return left is not None and left * 1000 < self._settings.spare_milliseconds
