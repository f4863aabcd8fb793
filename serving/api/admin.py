"""The methods of `recommendations.v1.Admin`."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from recommendations.v1 import admin_pb2 as pb
from recommendations.v1 import admin_pb2_grpc as pb_grpc

from recsys.config.serving import ServingSettings
from recsys.errors import ConfigurationError, StoreError
from recsys.instants import SECOND, format_instant, to_micros
from recsys.wording import nearest
from serving.answers.top_sales import TopSales
from serving.api.access import Access
from serving.api.requests import check_sale_id
from serving.clocks import Clock, system_clock
from serving.errors import FinalError, NotFoundError
from serving.stores.base import Store, WithdrawnSale
from serving.telemetry.record_log import LogState

_YEAR_10000 = 253_402_300_800 * SECOND  # the end of protobuf's range of timestamps


class Status(NamedTuple):
    """The parts of a process's status that other parts of the process know."""

    top_sales: TopSales | None
    rules: str
    problems: list[str]
    exposures: LogState | None


class AdminServicer(pb_grpc.AdminServicer):
    """Closes, hides and shows sales through the store, which all processes read, and reports the status."""

    def __init__(
        self, settings: ServingSettings, store: Store, access: Access, clock: Clock, status: Callable[[], Status]
    ):
        self._settings = settings
        self._store = store
        self._access = access
        self._clock = clock
        self._status = status
        self._started = system_clock()

    def CloseSale(self, request: pb.CloseSaleRequest, context: grpc.ServicerContext) -> pb.WithdrawnSale:  # noqa: N802
        """Close a sale, which is final."""
        sale_id = check_sale_id(request.sale_id, self._settings.limits)
        return self._withdraw(sale_id, True, None, request.comment, context)

    def HideSale(self, request: pb.HideSaleRequest, context: grpc.ServicerContext) -> pb.WithdrawnSale:  # noqa: N802
        """Hide a sale from all pages; a closed sale is refused."""
        sale_id = check_sale_id(request.sale_id, self._settings.limits)
        until = _check_until(request, self._clock())
        hidden = self._withdraw(sale_id, False, until, request.comment, context)
        if hidden.closed:
            raise FinalError(f"sale {sale_id!r} is closed, which is final: it is on no page")
        return hidden

    def ShowSale(  # noqa: N802
        self,
        request: pb.ShowSaleRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ShowSaleResponse:
        """Show a hidden sale again."""
        sale_id = check_sale_id(request.sale_id, self._settings.limits)
        change = self._store.restore(sale_id)
        if change is None:
            raise NotFoundError(
                f"sale {sale_id!r} is not hidden: 'recsys sales list' (ListWithdrawnSales) names those that are"
            )
        if change.sale.closed:
            raise FinalError(f"sale {sale_id!r} was closed, which is final: open another one")
        return pb.ShowSaleResponse()

    def LookUpSale(  # noqa: N802
        self,
        request: pb.LookUpSaleRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.SaleLookup:
        """Say whether the snapshot in force has a sale."""
        return self._look_up(check_sale_id(request.sale_id, self._settings.limits))

    def ListWithdrawnSales(  # noqa: N802
        self,
        request: pb.ListWithdrawnSalesRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ListWithdrawnSalesResponse:
        """List the closed and the hidden sales; the token of a page is the id of the last sale of the one before."""
        if request.page_size < 0:
            raise ConfigurationError(f"page_size == {request.page_size}, must be at least 0, for all sales")
        now, withdrawn = self._clock(), sorted(self._store.withdrawn().items())
        sales = [sale for sale_id, sale in withdrawn if sale_id > request.page_token and sale.is_withdrawn(now)]
        page = sales[: request.page_size or None]
        token = page[-1].sale_id if len(page) < len(sales) else ""
        return pb.ListWithdrawnSalesResponse(sales=map(_withdrawn_message, page), next_page_token=token)

    def GetStatus(  # noqa: N802
        self,
        request: pb.GetStatusRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.GetStatusResponse:
        """Return the status of this process."""
        top_sales, rules, problems, exposures = self._status()
        now = self._clock()
        response = pb.GetStatusResponse(
            process_id=os.getpid(),
            workers=self._settings.workers,
            rules=rules,
            problems=problems,
            present_time=_timestamp(now),
            start_time=_timestamp(self._started),
        )
        if top_sales is not None:
            snapshot = top_sales.snapshot
            response.snapshot = snapshot.name
            response.experiments.update(top_sales.experiments.fingerprints if top_sales.experiments else {})
            response.as_of_time.CopyFrom(_timestamp(to_micros(snapshot.as_of)))
            response.horizon_end_time.CopyFrom(_timestamp(to_micros(snapshot.horizon_end)))
            with suppress(StoreError):  # a known change cannot be read: the store's problem is among the problems
                response.open_sales = sum(top_sales.open_sales(now).is_open)
        if exposures is not None:
            response.exposures_queued, response.exposures_lost = exposures.queued, exposures.lost
        return response

    def _withdraw(
        self, sale_id: str, closed: bool, until: int | None, comment: str, context: grpc.ServicerContext
    ) -> pb.WithdrawnSale:
        sale = WithdrawnSale(
            sale_id=sale_id,
            closed=closed,
            since=self._clock(),
            until=until,
            comment=comment[:1000],
            by=self._access.name_of(context),
        )
        change = self._store.withdraw(sale)
        message = _withdrawn_message(change.sale)
        message.unacknowledged_processes.extend(change.unacknowledged)
        message.stopped_processes.extend(change.stopped)
        message.lookup.CopyFrom(self._look_up(sale_id))
        return message

    def _look_up(self, sale_id: str) -> pb.SaleLookup:
        top_sales = self._status().top_sales
        if top_sales is None:
            return pb.SaleLookup()
        found = pb.SaleLookup(snapshot=top_sales.snapshot.name, in_snapshot=sale_id in top_sales.sale_ids)
        if found.in_snapshot:
            found.title = top_sales.snapshot.sales[top_sales.sale_ids.index(sale_id)].title
        else:
            found.nearest_sale_id = nearest(sale_id, top_sales.sale_ids) or ""
        return found


def _check_until(request: pb.HideSaleRequest, now: int) -> int | None:
    if not request.HasField("until_time"):
        return None
    seconds = request.until_time.seconds
    until = seconds * SECOND + request.until_time.nanos // 1000
    if not now < until < _YEAR_10000:
        raise ConfigurationError(
            f"until_time == {format_instant(until)}, must be after the present, {format_instant(now)}, and before the "
            "year 10000"
        )
    return until


def _withdrawn_message(sale: WithdrawnSale) -> pb.WithdrawnSale:
    message = pb.WithdrawnSale(
        sale_id=sale.sale_id, closed=sale.closed, comment=sale.comment, by=sale.by, since_time=_timestamp(sale.since)
    )
    if sale.until is not None:
        message.until_time.CopyFrom(_timestamp(sale.until))
    return message


def _timestamp(micros: int) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMicroseconds(micros)
    return timestamp
