"""A Redis server for one test, which can stop, freeze and restart it."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.helpers.waiting import PATIENCE, wait_until


class RealRedis:
    """A Redis server without persistence: empty after a restart.

    Args:
        folder: Its working folder.
        tls: The certificate of 127.0.0.1, the key and the authority, if it speaks TLS alone.
        password: Required from every client; none by default.
    """

    def __init__(self, folder: Path, tls: Sequence[Path] = (), password: str = ""):
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed: apt-get install redis-server")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"{'rediss' if tls else 'redis'}://127.0.0.1:{self.port}/0"
        self._options: dict[str, Any] = {"password": password or None}
        address = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder)]
        if tls:
            certificate, key, authority = map(str, tls)
            self._options["ssl_ca_certs"] = authority
            address[2:4] = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            address += ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", authority]
        if password:
            address += ["--requirepass", password]
        self._command = [program, *address, "--save", "", "--appendonly", "no", "--daemonize", "no"]

    def start(self) -> "RealRedis":
        """Start, and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_until(self._answers)
        return self

    def kill(self) -> None:
        """Kill the process, even if it is frozen."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def freeze(self) -> None:
        """Suspend the process: connections are accepted, but not answered."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the process."""
        self._process.send_signal(signal.SIGCONT)

    def connection(self) -> redis.Redis:
        """Return a connection of another client."""
        return redis.Redis.from_url(self.url, **self._options)

    def _answers(self) -> bool:
        try:
            with self.connection() as connection:
                return connection.ping()
        except redis.ConnectionError:
            return False
