"""The store in Redis, which the machines of a fleet share: users' rankings, withdrawn sales and running sessions.

    <prefix>current                     name of the snapshot to serve
    <prefix>snapshot:<name>             hash of the snapshot's files by name, without those of users; written last
    <prefix>snapshot:<name>:user:<id>   a user's rankings in the order of the policies, their history, and a CRC-32
    <prefix>published                   list of the snapshots served so far, the current one first
    <prefix>withdrawn                   hash of the closed and hidden sales by id, and of those shown again
    <prefix>withdrawn:version           a random number, another one after each change of the withdrawn sales
    <prefix>withdrawn:changes           list of the latest of these numbers, the latest first
    <prefix>leases                      hash of the serving processes: the version that each one has applied (`ended`
                                        for one that has ended), and the millisecond until which it vouches for it
    <prefix>session:<id>                list of a user's events, the latest last

Each machine copies the snapshot's files to its own disk and maps them into memory; users are fetched one by one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from recsys.config.serving import StoreSettings
from recsys.errors import StoreError
from recsys.instants import DAY, SECOND
from recsys.snapshot.format import Snapshot
from serving.clocks import Clock
from serving.stores.base import Change, SessionEvent, WithdrawnSale
from serving.stores.redis_server import RedisServer
from serving.stores.redis_snapshots import RedisSnapshots
from serving.stores.redis_withdrawals import RedisWithdrawals

_MAX_EVENTS = 100  # stored per session


class RedisStore:
    """The store of one serving process in a Redis server; its parts are the snapshots and the withdrawn sales.

    Args:
        settings: Address, prefix and timeout.
        folder: The folder for copies of the snapshots' files.
        clock: Returns the present time.
        poll_seconds: The interval at which every process calls `poll`.
    """

    def __init__(self, settings: StoreSettings, folder: Path, clock: Clock, poll_seconds: float = 0.2):
        self._server = RedisServer(settings)
        self.snapshots = RedisSnapshots(self._server, folder / "redis")
        self.withdrawals = RedisWithdrawals(self._server, settings, clock, poll_seconds)

    @property
    def process(self) -> str:
        """The name of this process in its lease."""
        return self.withdrawals.process

    def current(self) -> str | None:
        """Return the name of the snapshot to serve; None before the first one is pushed."""
        return self.snapshots.current()

    def open(self, name: str) -> Snapshot:
        """Fetch the files of a snapshot, open it and verify its files."""
        return self.snapshots.open(name)

    def stamp(self, name: str) -> object:
        """Return a value that changes when a snapshot is pushed again."""
        return self.snapshots.stamp(name)

    def earlier(self) -> Sequence[str]:
        """Return the names of the snapshots published before the current one, the latest first."""
        return self.snapshots.earlier()

    def poll(self) -> None:
        """Renew the lease of the process, and read the withdrawn sales if they have changed."""
        self.withdrawals.poll()

    def known_at(self) -> float:
        """Return the instant of the monotonic clock as of which all withdrawn sales are known."""
        return self.withdrawals.known_at()

    def version(self) -> int:
        """Return a number that changes whenever `withdrawn` does."""
        return self.withdrawals.version()

    def withdrawn(self) -> Mapping[str, WithdrawnSale]:
        """Return the decisions about sales by id, as of the last poll."""
        return self.withdrawals.withdrawn()

    def withdraw(self, sale: WithdrawnSale) -> Change:
        """Close or hide a sale."""
        return self.withdrawals.withdraw(sale)

    def restore(self, sale_id: str) -> Change | None:
        """Show a hidden sale again; None for a sale that is not withdrawn."""
        return self.withdrawals.restore(sale_id)

    def session(self, user_id: str, since: int) -> Sequence[SessionEvent]:
        """Return a user's events from an instant on, in the order in which they were added."""
        with self._server.errors():
            rows = self._server.client.lrange(self._server.key("session:") + user_id, 0, -1)
        try:
            events = [SessionEvent(*orjson.loads(row)) for row in rows]
        except (ValueError, TypeError):
            raise StoreError(
                f"a key of {self._server.key('session:')}* holds no events: remove it, or wait until it expires within "
                "a day"
            ) from None
        # An event that is delivered twice counts once.
        return [event for event in dict.fromkeys(events) if event.occurred_at >= since]

    def add_to_sessions(self, events: Mapping[str, Sequence[SessionEvent]]) -> None:
        """Add events to users' sessions."""
        with self._server.errors(), self._server.client.pipeline() as pipeline:
            for user_id, of_user in events.items():
                key = self._server.key("session:") + user_id
                pipeline.rpush(key, *(orjson.dumps(list(event)) for event in of_user))
                pipeline.ltrim(key, -_MAX_EVENTS, -1)
                pipeline.expire(key, DAY // SECOND)
            pipeline.execute()

    def close(self) -> None:
        """End the lease, and close the connections."""
        self.withdrawals.end_lease()
        self._server.client.close()
