"""The store in Redis, which the machines of a fleet share: users' rankings, withdrawn sales, running
sessions and live counts.

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
    <prefix>counted:<day>:<id>          hash of a user's event that counts, by sale, on a day since 1970 UTC
    <prefix>counts:<minute>             hash of what counts by sale in a minute since 1970 UTC (`CountsBySale`)
    <prefix>counts:revisions            sorted set of these minutes by their latest change, a microsecond
    <prefix>counts:began                the first of these changes: another one tells that Redis has lost the others

Each machine copies the snapshot's files to its own disk and maps them into memory; users are fetched one by one. Where
machines have whole snapshots on their disks (`store.snapshots: folder`), Redis holds none.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from recsys.config.serving import StoreSettings
from recsys.shop.live_counts import LiveCounts
from recsys.snapshot.format import Snapshot
from serving.clocks import Clock
from serving.stores.base import Change, SessionEvent, WithdrawnSale
from serving.stores.folder_snapshots import FolderSnapshots
from serving.stores.redis_server import RedisServer
from serving.stores.redis_sessions import RedisSessions
from serving.stores.redis_snapshots import RedisSnapshots
from serving.stores.redis_withdrawals import RedisWithdrawals


class RedisStore:
    """The store of one serving process in a Redis server.

    Args:
        settings: Address, prefix and timeout.
        folder: The folder for copies of the snapshots' files.
        clock: Returns the present time.
        poll_seconds: The interval at which every process calls `poll`.
        on_disk: The snapshots of this machine, where they are not in Redis.
    """

    def __init__(
        self,
        settings: StoreSettings,
        folder: Path,
        clock: Clock,
        poll_seconds: float = 0.2,
        on_disk: FolderSnapshots | None = None,
    ):
        self._server = RedisServer(settings)
        self.snapshots = on_disk or RedisSnapshots(self._server, folder / "redis")
        self.withdrawals = RedisWithdrawals(self._server, settings, clock, poll_seconds)
        self._sessions = RedisSessions(self._server, clock)

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
        return self._sessions.get(user_id, since)

    def add_to_sessions(self, events: Mapping[str, Sequence[SessionEvent]]) -> None:
        """Add events to users' sessions and to the live counts."""
        self._sessions.add(events)

    def live_counts(self, since: int) -> LiveCounts:
        """Return what all processes of the fleet have counted from the hour of an instant on."""
        return self._sessions.live_counts(since)

    def close(self) -> None:
        """End the lease, and close the connections."""
        self.withdrawals.end_lease()
        self._server.client.close()
