"""A fleet of real processes with a Redis that stalls, loses data and fails over, and what must hold meanwhile."""

import time
from pathlib import Path
from typing import Any

from recsys.config.serving import StoreSettings
from tests.helpers.fleet_process import SALES, FleetProcess
from tests.helpers.real_redis import RealRedis
from tests.helpers.tcp_proxy import TcpProxy
from tests.helpers.waiting import wait_until

SECONDS = {"acknowledge_seconds": 0.3, "vouch_seconds": 0.5, "timeout_seconds": 0.1}


class Fleet:
    """Processes that share a Redis, each through a proxy of its own; a standby takes over with what was last copied."""

    def __init__(self, folder: Path, count: int = 3):
        self.servers = [RealRedis(folder).start() for _ in range(2)]
        self.processes = [FleetProcess() for _ in range(count)]
        self.proxies: list[TcpProxy] = []
        self.settings: list[StoreSettings] = []
        self.closed: dict[str, set[int]] = {}
        """By sale, the processes that must not show it any more."""

    def begin(self, number: int) -> None:
        """Begin anew, with processes that share nothing with those before."""
        for server in self.servers:
            with server.connection() as connection:
                connection.flushall()
        for proxy in self.proxies:
            proxy.close()
        self.proxies = [TcpProxy(self.servers[0].port) for _ in self.processes]
        self.closed = {}
        self.settings = [
            StoreSettings(kind="redis", url=f"redis://127.0.0.1:{proxy.port}/0", prefix=f"{number}:", **SECONDS)
            for proxy in self.proxies
        ]
        for process, settings in zip(self.processes, self.settings, strict=True):
            process.begin(settings)
        self._wait_for_peers()
        assert all(process.shown() == set(SALES) for process in self.processes)

    def do(self, action: str, *arguments: Any) -> None:
        if action in ("close", "hide", "show"):
            self._decide(action, *arguments)
        elif action in ("stall", "cut", "heal"):
            getattr(self.proxies[arguments[0] % len(self.proxies)], action)()
        elif action == "restart":
            self._restart()
        elif action == "pause":
            time.sleep(0.05)
        elif action == "fail over":
            self.servers.reverse()
            for proxy in self.proxies:
                proxy.target = self.servers[0].port
                proxy.drop()
        else:
            with self.servers[0].connection() as master, self.servers[1].connection() as standby:
                if action == "lose":
                    master.flushall()
                else:
                    standby.flushall()
                    for key in master.scan_iter("*"):
                        if (content := master.dump(key)) is not None:
                            standby.restore(key, 0, content)

    def _restart(self) -> None:
        """Restart the first process, unless one is cut off: after a loss of data no new process knows it."""
        if all(proxy.passes for proxy in self.proxies):
            # What the process alone knew may be lost with the store's data.
            self.closed = {sale_id: rest for sale_id, known in self.closed.items() if (rest := known - {0})}
            self.processes[0].begin(self.settings[0])
            self._wait_for_peers()

    def _wait_for_peers(self) -> None:
        """Wait until each process knows the others, so that a loss of data hides none of them."""
        names = {process.name for process in self.processes}
        wait_until(lambda: all(names <= {each.name, *each.tell("peers")} for each in self.processes))

    def _decide(self, action: str, number: int, sale_id: str) -> None:
        number %= len(self.processes)
        answer = self.processes[number].tell(action, sale_id)
        if answer is None:  # the store is out of reach: the closing may have been written or not
            return
        if action == "show" and sale_id in self.closed and number in self.closed[sale_id]:
            assert answer["closed"] or sale_id not in self.processes[number].shown()
        if action == "close":
            assert answer["closed"]
            named = {*answer["unacknowledged"], *answer["stopped"]}
            knowing = {each for each, process in enumerate(self.processes) if process.name not in named}
            self.closed.setdefault(sale_id, set()).update(knowing)

    def check(self) -> None:
        """Check that no process shows a sale that it has acknowledged as closed."""
        for number, process in enumerate(self.processes):
            known = {sale_id for sale_id, knowing in self.closed.items() if number in knowing}
            assert not known & process.shown()

    def check_end(self) -> None:
        """Check that all processes agree and vouch once the store is in reach, and that all closings hold."""
        for proxy in self.proxies:
            proxy.heal()
        wait_until(lambda: all(process.tell("vouches") for process in self.processes), 10)
        first, *others = self.processes
        wait_until(lambda: all(other.shown() == first.shown() for other in others), 10)
        self.check()
        assert not set(self.closed) & first.shown()

    def end(self) -> None:
        for process in self.processes:
            process.end()
        for proxy in self.proxies:
            proxy.close()
        for server in self.servers:
            server.kill()
