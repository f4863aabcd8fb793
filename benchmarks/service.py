"""The service as started by `recsys serve`, on the snapshots of a shop."""

import json
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
import psutil
from recommendations.v1 import admin_pb2, admin_pb2_grpc
from recommendations.v1 import recommendations_pb2 as pb

from benchmarks.load import Request, grpc_request
from benchmarks.processes import PATIENCE, Running, free_ports
from benchmarks.served_shop import AS_OF, ServedShop
from recsys.instants import HOUR, to_micros
from recsys.meta_model import META
from recsys.snapshot.format import Snapshot
from serving.client import Client

METHOD = "/recommendations.v1.Recommendations/GetTopSales"
PAGE = 10
CLOCK = AS_OF + HOUR
"""The instant of the service's clock at its start."""


class Service(Running):
    """The service's parent process and its workers; ready when constructed.

    Args:
        shop: With a current snapshot.
        workers: Number of processes that answer.
        cores: The cores that they run on.
        name: Prefix of its files in the shop's folder.
        token: The token of its callers, if it requires one.
        where: Keys `folder` and `disk` of its configuration; the shop's folder by default.
        settings: Changes to the default settings.
    """

    def __init__(
        self,
        shop: ServedShop,
        workers: int,
        cores: Sequence[int],
        name: str = "service",
        token: str | None = None,
        where: Mapping[str, str] | None = None,
        **settings: object,
    ):
        self.shop = shop
        self.token = token
        port, self._admin_port, self.metrics_port = free_ports(3)
        self.target = f"127.0.0.1:{port}"
        serving = {
            "workers": workers,
            "port": port,
            "admin_port": self._admin_port,
            "metrics_port": self.metrics_port,
            "clock": "replay",
            "replay_start_hours": (CLOCK - AS_OF) / HOUR,
            "ranking": "snapshot",  # pages that can be compared with the snapshot's
            **settings,
        }
        configuration = shop.folder / f"{name}.yaml"  # JSON is YAML
        configuration.write_text(
            json.dumps(
                {
                    "folder": str(shop.folder),
                    **(where or {}),
                    "source": {"sql": "unused", "raw": {}},
                    "serving": serving,
                }
            )
        )
        command = [sys.executable, "-m", "cli.main", "serve", "--conf", str(configuration)]
        super().__init__(command, cores, shop.folder / f"{name}.log")
        try:
            self.wait_for(port)
            with Client(self.target, deadline=PATIENCE, token=token) as client:
                self.answer_bytes = client.top_sales(shop.some_users(1)[0]).ByteSize()
        except BaseException:
            self.stop()
            raise

    def workers(self) -> list[psutil.Process]:
        """Return the processes that answer."""
        return self.members()[1:]

    def requests(self, count: int, session: int = 0) -> list[Request]:
        """Return requests for the pages of `count` users, each with a session of `session` sales."""
        sales = self.shop.open_sale_ids()
        return [
            self.request(user, sales[7 * number :][:session]) for number, user in enumerate(self.shop.some_users(count))
        ]

    def request(self, user: str, session: Sequence[str] = ()) -> Request:
        """Return the request for a user's page."""
        message = pb.GetTopSalesRequest(user_id=user, session_sale_ids=session)
        request = grpc_request(self.target, METHOD, message.SerializeToString())
        if self.token is None:
            return request
        return request._replace(headers=[*request.headers, f"authorization: Bearer {self.token}"])

    def errors(self, method: str = "", codes: Sequence[str] = ()) -> int:
        """Return the number of requests that ended in an error, by the service's own metrics.

        Args:
            method: Counts those of one method; all if empty.
            codes: Counts those with these status codes; all if empty.
        """
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as response:
            lines = response.read().decode().splitlines()
        errors = [line for line in lines if line.startswith("recsys_errors_total{") and f'method="{method}' in line]
        if codes:
            errors = [line for line in errors if any(f'code="{code}"' in line for code in codes)]
        return int(sum(float(line.split()[-1]) for line in errors))

    def statuses(self, count: int) -> "Statuses":
        """Connect to the admin port of each of `count` workers."""
        return Statuses(f"127.0.0.1:{self._admin_port}", count)

    def record_purchase(self) -> None:
        """Record one purchase, so that something is counted: until then, live pages are the night's."""
        with Client(self.target, deadline=PATIENCE, token=self.token) as client:
            user, sale = self.shop.some_users(1)[0], self.shop.open_sale_ids()[0]
            client.record([pb.Event(user_id=user, sale_id=sale, kind=pb.EVENT_KIND_PURCHASE)])

    def check_pages(self, count: int = 200) -> None:
        """Compare `count` pages with the rankings of the snapshot that they name.

        Raises:
            SystemExit: If a page is wrong.
        """
        expected = Expected(self.shop.root)
        with Client(self.target, deadline=PATIENCE) as client:
            for user in self.shop.some_users(count):
                if problem := expected.problem(user, client.top_sales(user)):
                    raise SystemExit(problem)


class Expected:
    """The expected pages, read from the snapshots."""

    def __init__(self, root: Path):
        self._root = root
        self._snapshots: dict[str, Snapshot] = {}

    def problem(self, user: str, page: pb.GetTopSalesResponse) -> str:
        """Return the problem of a user's page; empty if it is as expected."""
        snapshot = self._snapshot(page.snapshot)
        ranking, now = (
            snapshot.ranking(META, user),
            to_micros(page.answer_time.ToDatetime(tzinfo=snapshot.as_of.tzinfo)),
        )
        assert ranking is not None
        is_open = (snapshot.opens_at <= now) & (now < snapshot.closes_at)
        wanted = [snapshot.sales[sale].sale_id for sale in ranking.sales.tolist() if is_open[sale]][:PAGE]
        shown = [sale.sale_id for sale in page.sales]
        return "" if shown == wanted else f"{user} was shown {shown}, must be {wanted} by snapshot {page.snapshot}"

    def _snapshot(self, name: str) -> Snapshot:
        if name not in self._snapshots:
            self._snapshots[name] = Snapshot.open(self._root / name, verify=False)
        return self._snapshots[name]


class Statuses:
    """One connection to each worker; connections are opened until every worker has answered one."""

    def __init__(self, target: str, count: int):
        self._by_worker: dict[int, admin_pb2_grpc.AdminStub] = {}
        self._channels = []
        while len(self._by_worker) < count:
            channel = grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)])
            self._channels.append(channel)
            stub = admin_pb2_grpc.AdminStub(channel)
            self._by_worker[self._status(stub).process_id] = stub

    def snapshots(self) -> set[str]:
        """Return the names of the snapshots that the workers answer from."""
        return {self._status(stub).snapshot for stub in self._by_worker.values()}

    def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            channel.close()

    def _status(self, stub: admin_pb2_grpc.AdminStub) -> admin_pb2.GetStatusResponse:
        return stub.GetStatus(admin_pb2.GetStatusRequest(), timeout=PATIENCE)
