"""Part of `benchmarks.serving`: what the answering thread does for a live page with a session, and what it costs."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from recommendations.v1 import recommendations_pb2 as pb

from benchmarks.load import saturate
from benchmarks.service import CLOCK, Service
from benchmarks.serving_bench import SENDERS, Bench, measured, verdict
from recsys.config.serving import LimitSettings
from recsys.instants import DAY, SECOND
from recsys.logs.records import EXPOSURES, Exposure, encode_exposure
from recsys.meta_model import META
from recsys.snapshot.format import Snapshot
from recsys.snapshot.users import History, User
from serving.answers.page_writing import PageWriter
from serving.answers.pages import UNEXPLAINED
from serving.answers.session import SessionRanker
from serving.answers.top_sales import TopSales
from serving.api.requests import page_request
from serving.stores.folder import FolderStore
from serving.telemetry.metrics import Metrics
from serving.telemetry.record_log import RecordLog
from serving.telemetry.recorder import Recorder

SESSION, EVENTS = 20, 80
_CALLS, _ROUNDS = 100, 15


class _Reader(NamedTuple):
    """A user with a long history."""

    known: History

    def history(self) -> History:
        """Return the history."""
        return self.known


def breakdown(bench: Bench) -> None:
    """Measure the stages of a page one by one, in one thread, and what is left of the page that the service sends."""
    shop = bench.shop
    bench.title(
        f"A live page, session of {SESSION} sales, {EVENTS} events: microseconds of CPU in the answering thread"
    )
    with Service(shop, 1, [bench.server_core], "broken-down", ranking="live") as service:
        service.record_purchase()
        load = partial(saturate, service.requests(SENDERS, SESSION), bench.requests, bench.load_core)
        load()
        served = median(measured(service, load, bench.requests)[1] for _ in range(bench.rounds))
    with tempfile.TemporaryDirectory(dir=shop.folder) as folder:
        stages = _stages(bench, Path(folder))
    for name, cost in stages.items():
        print(f"  {name:<44} {cost:>6.1f}")
    rest = served - sum(stages.values())
    print(f"  {'transport, admission, threads and the rest':<44} {rest:>6.1f}")
    print(f"  {'the page, as the service sends it':<44} {served:>6.1f}")
    verdict("ranking <= 120 µs", sum(stages[name] for name in _RANKING) <= 120)
    verdict("exposure and metrics <= 10 µs", stages[_LOG] <= 10)


_HISTORY, _FEATURES, _ORDER = "history and session as arrays", "features of all sales", "scores and order"
_REASONS, _LOG = "reasons and photos of the sales shown", "exposure and metrics"
_RANKING = _HISTORY, _FEATURES, _ORDER, _REASONS


def _stages(bench: Bench, folder: Path) -> dict[str, float]:
    """Return what each stage costs, in the order in which a page passes them."""
    shop = bench.shop
    snapshot = Snapshot.open(shop.root / shop.current())
    top_sales, sessions = TopSales.of(snapshot), SessionRanker(snapshot)
    (user_id,), sale_ids = shop.some_users(1), shop.open_sale_ids()[:SESSION]
    now = CLOCK
    message = pb.GetTopSalesRequest(user_id=user_id, session_sale_ids=sale_ids)
    data, limits = message.SerializeToString(), LimitSettings()
    request = page_request(message, META, limits)
    ranker, reader = sessions.night, _reader(len(sessions.catalogue))
    store = FolderStore(shop.root, folder / "serving", lambda: now)

    known = sessions.rank(META, reader, request.session, ranker)
    assert known is not None
    scored = known.scored
    _ = scored.features

    def features() -> None:
        scored.histories._known.clear()  # weights of events, which several recommenders share
        ranker.scorer.features(scored.histories)

    def order() -> None:
        scored._known.clear()
        next(known.picks())

    def reasons() -> None:
        scored.histories._known.clear()
        known.explained(unexplained)

    answer = top_sales.answer(request, now, "r")
    chosen = top_sales.chooser.choose(request, now, lambda: False)
    page = answer.page
    unexplained = [(sale, score, UNEXPLAINED, 0) for sale, score, _, _ in page.picks]
    recorder = Recorder(RecordLog[Exposure](folder, EXPOSURES, encode_exposure), Metrics())
    writer: PageWriter = top_sales.writer
    return {
        "the request, parsed": _cost(lambda: pb.GetTopSalesRequest.FromString(data)),
        "the request, checked": _cost(lambda: page_request(message, META, limits)),
        "recorded events looked up": _cost(lambda: store.session(user_id, now - DAY)),
        "the user looked up": _cost(lambda: snapshot.users.find(user_id)),
        _HISTORY: _cost(lambda: sessions.rank(META, reader, request.session, ranker)),
        _FEATURES: _cost(features),
        _ORDER: _cost(order),
        "open sales, rules, the page made": _cost(
            lambda: top_sales.maker.make(
                request, chosen._replace(picks=iter(page.picks)), top_sales.open_sales(now), None, now, "r"
            )
        ),
        _REASONS: _cost(reasons),
        "bytes": _cost(lambda: writer.write(page, None, now, "0123456789abcdef01234567")),
        _LOG: _cost(lambda: recorder.answer(request, answer, top_sales, now, "r", 0.0)),
    }


def _reader(n_sales: int) -> User:
    rng = np.random.default_rng(0)
    ages = -np.sort(-rng.integers(1, 90 * DAY // SECOND, EVENTS)).astype(np.int32)
    return _Reader(  # type: ignore[return-value]  # only its history is asked for
        History(rng.integers(0, n_sales, EVENTS).astype(np.int32), ages, rng.random(EVENTS) < 0.1)
    )


def _cost(call: Callable[[], object]) -> float:
    """Return the microseconds of CPU of a call: the median of several rounds."""
    call()
    costs = []
    for _ in range(_ROUNDS):
        start = time.thread_time_ns()
        for _ in range(_CALLS):
            call()
        costs.append((time.thread_time_ns() - start) / _CALLS / 1e3)
    return median(costs)
