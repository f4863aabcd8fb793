"""The service without a port: pages made in the process of their caller, for notebooks and scripts."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from recommendations.v1 import recommendations_pb2 as pb

from recsys.config.serving import ServingSettings
from serving.clocks import Clock
from serving.process.server import ServiceProcess, clock_of


class LocalService:
    """Answers requests as the service does, and records nothing: no exposure is logged, no experiment begins.

    Before each page it follows the current snapshot, the rules, the closed and hidden sales, and what users have done.

    Args:
        settings: The service's settings.
        folder: The shop's folder.
        clock: Replaces the clock that the settings name.
    """

    def __init__(self, settings: ServingSettings, folder: Path, clock: Clock | None = None):
        exposures = settings.exposures.model_copy(update={"enabled": False})
        silent = settings.model_copy(update={"exposures": exposures, "tracing": None})
        with ExitStack() as stack:
            self._process = ServiceProcess(silent, folder, clock or clock_of(settings), stack, puts_in_force=False)
            self._servicer = self._process.servicer()
            self._resources = stack.pop_all()

    def top_sales(self, request: pb.GetTopSalesRequest) -> pb.GetTopSalesResponse:
        """Return the page that the service would answer with.

        Raises:
            ConfigurationError: If a value of the request breaks a rule.
            SnapshotError: If no snapshot can be served; says why.
        """
        self._process.follow()
        return pb.GetTopSalesResponse.FromString(self._servicer.GetTopSales(request, _PATIENT))

    def similar_sales(self, request: pb.GetSimilarSalesRequest) -> pb.GetTopSalesResponse:
        """Return the sales that resemble one, as the service would answer; see `top_sales`."""
        self._process.follow()
        return pb.GetTopSalesResponse.FromString(self._servicer.GetSimilarSales(request, _PATIENT))

    def close(self) -> None:
        """Close the store."""
        self._resources.close()


class _Patient:
    """The part of a request's context that pages depend on: the caller waits, however long it takes."""

    def time_remaining(self) -> None:
        return None

    def is_active(self) -> bool:
        return True


_PATIENT: Any = _Patient()
