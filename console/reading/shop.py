"""What the pages read of a shop: its configuration, its snapshot, and what its service says."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Literal, NamedTuple

from recommendations.v1 import admin_pb2 as admin_pb

from recsys.config.serving import host_and_port
from recsys.config.settings import Settings
from recsys.errors import ConfigurationError, RecsysError, SnapshotError
from recsys.ranking.ranker_files import RANKER, read_sale_ids
from recsys.snapshot import store
from recsys.snapshot.format import Snapshot, SnapshotSale
from recsys.storage.outputs import newest_runs
from recsys.tables.parts import read_batches
from serving.client import Client, trusting

_ALL_ADDRESSES = ("0.0.0.0", "::")
_DEADLINE_S = 5.0
_TITLED = ("sale_id", "title")

State = Literal["open", "coming", "closed", "hidden", "taken off"]


class Answered(NamedTuple):
    """What the service says of itself, or why it says nothing."""

    status: admin_pb.GetStatusResponse | None
    problem: str

    @property
    def present(self) -> datetime:
        """The present of the service, which may replay other hours; that of this machine if it does not answer."""
        if self.status is None or not self.status.HasField("present_time"):
            return datetime.now(UTC)
        return self.status.present_time.ToDatetime(UTC)


@dataclass(frozen=True)
class Sale:
    """A sale of the snapshot, and whether pages may show it."""

    position: int
    """Its position in the snapshot's sales."""
    about: SnapshotSale
    state: State
    """`closed` by its own closing time, `taken off` by staff."""
    withdrawn: admin_pb.WithdrawnSale | None


class ShopView:
    """A shop, for reading; safe to use from several threads.

    Args:
        settings: The shop's settings.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self._lock = Lock()
        self._snapshot: Snapshot | None = None
        self._titles: tuple[str, Mapping[str, str]] = ("", {})
        self._ids: tuple[str, list[str]] = ("", [])

    @property
    def token(self) -> str | None:
        """The console's own token for the service; None if it has none.

        Raises:
            ConfigurationError: If its file cannot be read.
        """
        return _token(self.settings.console.token_file)

    @cached_property
    def service(self) -> Client:
        """The service; connected at its first use.

        Raises:
            ConfigurationError: If an address, the token or the authority cannot be used.
        """
        settings, serving = self.settings.console, self.settings.serving
        host = "127.0.0.1" if serving.host in _ALL_ADDRESSES else serving.host
        admin = settings.admin_service
        if admin is None and serving.admin_port is not None:
            admin = host_and_port(host, serving.admin_port)
        authority = Path(settings.authority) if settings.authority else None
        return Client(
            settings.service or host_and_port(host, serving.port),
            deadline=_DEADLINE_S,
            token=self.token,
            credentials=trusting(authority),
            admin_target=admin,
        )

    def ask_status(self) -> Answered:
        """Ask the service how it is."""
        try:
            return Answered(self.service.status(), "")
        except RecsysError as error:
            return Answered(None, str(error))

    def snapshot(self) -> Snapshot | None:
        """Return the snapshot that this machine's disk says is served, its contents not checked; None if there is none.

        Raises:
            SnapshotError: If it cannot be read.
        """
        root = self.settings.snapshots_folder
        name = store.current(root)
        with self._lock:
            if name is None:
                self._snapshot = None
            elif self._snapshot is None or self._snapshot.name != name:
                self._snapshot = Snapshot.open(root / name, verify=False)
            return self._snapshot

    def needed_snapshot(self) -> Snapshot:
        """Return the snapshot.

        Raises:
            SnapshotError: If there is none, or it cannot be read.
        """
        snapshot = self.snapshot()
        if snapshot is None:
            raise SnapshotError(f"{self.settings.snapshots_folder} has no snapshot yet: run 'recsys nightly'")
        return snapshot

    def withdrawn(self) -> dict[str, admin_pb.WithdrawnSale]:
        """Return the sales that staff closed or hid, by id.

        Raises:
            RecsysError: If the service does not tell.
        """
        answer = self.service.admin("ListWithdrawnSales", admin_pb.ListWithdrawnSalesRequest())
        return {sale.sale_id: sale for sale in answer.sales}

    def sales(self, present: datetime, withdrawn: Mapping[str, admin_pb.WithdrawnSale]) -> list[Sale]:
        """Return the sales of the snapshot with their states, in the order of the snapshot."""
        found = self.snapshot()
        return [
            Sale(position, about, _state(about, present, withdrawn.get(about.sale_id)), withdrawn.get(about.sale_id))
            for position, about in enumerate(found.sales if found else ())
        ]

    def titles(self) -> Mapping[str, str]:
        """Return the titles of all sales that the last night knew, by id; empty before the first night."""
        run = next(iter(newest_runs(self.settings.place)), None)
        where = str(run / "sales") if run else ""
        with self._lock:
            if run is not None and self._titles[0] != where and (run / "sales").exists():
                batches = read_batches(run / "sales")  # read_arrow imports pandas: 70 MB
                pairs = (zip(*(each.column(name).to_pylist() for name in _TITLED), strict=True) for each in batches)
                self._titles = where, {sale_id: title or "" for some in pairs for sale_id, title in some}
            return self._titles[1]

    def catalogue_ids(self, snapshot: Snapshot) -> list[str]:
        """Return the ids of the sales that users' histories refer to by position; empty if the snapshot has none."""
        with self._lock:
            if self._ids[0] != snapshot.name:
                try:
                    self._ids = snapshot.name, read_sale_ids(snapshot.file(RANKER))
                except SnapshotError:
                    self._ids = snapshot.name, []
            return self._ids[1]


def _state(sale: SnapshotSale, present: datetime, withdrawn: admin_pb.WithdrawnSale | None) -> State:
    if withdrawn is not None:
        return "taken off" if withdrawn.closed else "hidden"
    if present < sale.opens_at:
        return "coming"
    return "open" if present < sale.closes_at else "closed"


def _token(file: str | None) -> str | None:
    if file is None:
        return os.environ.get("RECSYS_TOKEN") or None
    try:
        return Path(file).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"console.token_file == {file!r}, must be a readable file: {error}") from None
