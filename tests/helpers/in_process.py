"""One process of the service in this process, called without a network."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from recommendations.v1 import recommendations_pb2 as pb

from recsys.config.serving import ServingSettings
from recsys.logs.records import RECORDED_EVENTS, RecordedEvent, encode_event
from recsys.snapshot.format import Snapshot
from serving.answers.top_sales import TopSales
from serving.api.access import Access
from serving.api.admin import AdminServicer, Status
from serving.api.servicer import RecommendationsServicer
from serving.api.turns import Turns
from serving.clocks import Clock
from serving.process.watcher import RulesWatcher, SnapshotWatcher
from serving.stores.folder import FolderStore
from serving.telemetry.metrics import Metrics
from serving.telemetry.record_log import RecordLog
from serving.telemetry.recorder import Recorder
from serving.telemetry.troubles import Troubles
from tests.helpers.waiting import PATIENCE


class Call:
    """The parts of a gRPC context that the methods use."""

    def __init__(self, seconds_left: float | None = None):
        self._seconds_left = seconds_left

    def time_remaining(self) -> float | None:
        return self._seconds_left

    def is_active(self) -> bool:
        return True

    def invocation_metadata(self) -> tuple[()]:
        return ()


class InProcess:
    """The service without a network; it polls snapshots and rules only when `poll` is called."""

    def __init__(
        self, folder: Path, clock: Clock, rules: Path | None = None, record_seconds: float = PATIENCE, **changes: object
    ):
        self.settings = ServingSettings(**{"workers": 1, **changes})
        self.clock = clock
        self.troubles, self.metrics = Troubles(), Metrics()
        self.store = FolderStore(folder / "snapshots", folder / "serving", clock)
        events_folder = folder / RECORDED_EVENTS
        self.events = RecordLog[RecordedEvent](
            events_folder,
            RECORDED_EVENTS,
            encode_event,
            durable=True,
            flush_seconds=0.001,
            timeout_seconds=record_seconds,
        )
        self.events.start()
        self.rules = RulesWatcher(rules, self.troubles)
        self.watcher = SnapshotWatcher(self.store, self._prepare, self.rules.put_in_force, self.troubles, lambda: None)
        self.servicer = RecommendationsServicer(
            self.settings,
            self.watcher.served,
            clock,
            self.store,
            Recorder(None, self.metrics),
            self.events,
            self.metrics,
            self.troubles,
            Turns(self.settings.threads),
        )
        self.admin = AdminServicer(self.settings, self.store, Access(self.settings), clock, self._status)
        self.poll()

    def poll(self) -> None:
        self.rules.poll()
        self.watcher.poll()

    def ask(self, user_id: str = "", seconds_left: float | None = None, **fields: object) -> pb.GetTopSalesResponse:
        request = pb.GetTopSalesRequest(user_id=user_id, **fields)
        return pb.GetTopSalesResponse.FromString(self.servicer.GetTopSales(request, Call(seconds_left)))

    def batch(self, requests: Iterable[pb.GetTopSalesRequest]) -> list[pb.GetTopSalesResponse]:
        written = self.servicer.BatchGetTopSales(pb.BatchGetTopSalesRequest(requests=requests), Call())
        return list(pb.BatchGetTopSalesResponse.FromString(written).responses)

    def record(self, user_id: str, *sale_ids: str, at: int | None = None, kind: int = pb.EVENT_KIND_VISIT) -> None:
        time: Mapping[str, Timestamp] = {} if at is None else {"occur_time": timestamp(at)}
        events = [pb.Event(user_id=user_id, sale_id=sale_id, kind=kind, **time) for sale_id in sale_ids]
        self.servicer.RecordEvents(pb.RecordEventsRequest(events=events), Call())

    def close(self) -> None:
        self.events.close()
        self.store.close()

    def __enter__(self) -> "InProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self, snapshot: Snapshot) -> TopSales:
        pages = self.settings.pages
        return self.rules.put_in_force(TopSales.of(snapshot, self.store.version, self.store.withdrawn, pages))

    def _status(self) -> Status:
        return Status(self.watcher.serving(), self.rules.fingerprint, self.troubles.listed(), None)


def timestamp(micros: int) -> Timestamp:
    result = Timestamp()
    result.FromMicroseconds(micros)
    return result
