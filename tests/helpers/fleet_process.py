"""Processes that share a Redis as those of a service do, without a network: each polls, decides and says what it shows.

Run as a program, a process obeys commands, one line of JSON each; `FleetProcess` sends them.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from recsys.config.serving import StoreSettings
from recsys.errors import StoreError
from recsys.snapshot.users import Ranking
from serving.answers.open_sales import OpenSalesFinder
from serving.answers.pages import Pick
from serving.clocks import system_clock
from serving.stores.base import Change, WithdrawnSale
from serving.stores.redis import RedisStore

SALES = tuple(f"s{number}" for number in range(6))
POLL_SECONDS = 0.02


_POPULAR: list[Pick] = []


class FleetProcess:
    """A process of its own; `tell` sends it a command and returns its answer."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self._process = subprocess.Popen([sys.executable, "-m", __name__], env=environment, **pipes)
        self.name = ""

    def begin(self, settings: StoreSettings) -> None:
        """Open a store in place of the one before."""
        self.name = self.tell("begin", settings.model_dump_json())

    def tell(self, *command: str) -> Any:
        """Send a command and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        return json.loads(self._process.stdout.readline())

    def shown(self) -> set[str]:
        """Return the sales that a page would show now."""
        return set(self.tell("shown"))

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


class _Serving:
    """A store that is polled, and the open sales by it."""

    def __init__(self, settings: StoreSettings):
        self.settings = settings
        self.store = RedisStore(settings, Path(tempfile.gettempdir()), system_clock, POLL_SECONDS)
        self._ended = threading.Event()
        self._finder: OpenSalesFinder | None = None
        with suppress(StoreError):
            self.store.poll()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self.store.close()

    def _poll(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            with suppress(StoreError):
                self.store.poll()

    def shown(self) -> list[str]:
        with suppress(StoreError):  # not read yet: no page
            if self._finder is None:
                self._finder = OpenSalesFinder(
                    _snapshot(), 0, self.store.version, self.store.withdrawn, lambda *_: _POPULAR
                )
            is_open = self._finder.open_at(system_clock()).is_open
            return [sale_id for sale_id, open_now in zip(SALES, is_open, strict=True) if open_now]
        return []

    def vouches(self) -> bool:
        return time.monotonic() - self.store.known_at() <= self.settings.vouch_seconds

    def peers(self) -> list[str]:
        """Return the other processes that this one has seen."""
        return self.store.withdrawals.peers

    def decide(self, command: str, sale_id: str) -> dict[str, Any] | None:
        """Return who has not acknowledged a decision; None if the store did not take it."""
        try:
            change = self._change(command, sale_id)
        except StoreError:
            return None
        if change is None:
            return {"closed": False, "unacknowledged": [], "stopped": []}
        return {"closed": change.sale.closed, "unacknowledged": change.unacknowledged, "stopped": change.stopped}

    def _change(self, command: str, sale_id: str) -> Change | None:
        if command == "show":
            return self.store.restore(sale_id)
        return self.store.withdraw(WithdrawnSale(sale_id=sale_id, closed=command == "close", since=system_clock()))


def _snapshot() -> Any:
    n = len(SALES)
    everything = Ranking(np.arange(n), np.ones(n), np.zeros(n, int), np.zeros(n, int))
    return SimpleNamespace(
        sales=[SimpleNamespace(sale_id=sale_id) for sale_id in SALES],
        opens_at=np.zeros(n, np.int64),
        closes_at=np.full(n, 1 << 62),
        shared_rankings={"popularity": everything},
        as_of=datetime(2026, 3, 1, tzinfo=UTC),
    )


def _obey() -> None:
    serving: _Serving | None = None
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        answer: Any = None
        if command == "begin":
            if serving is not None:
                serving.end()
            serving = _Serving(StoreSettings.model_validate_json(arguments[0]))
            answer = serving.store.process
        elif serving is not None and command in ("shown", "vouches", "peers"):
            answer = getattr(serving, command)()
        elif serving is not None:
            answer = serving.decide(command, *arguments)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _obey()
