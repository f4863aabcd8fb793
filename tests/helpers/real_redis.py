"""A Redis server of a test's own, that it may stop, freeze and start again."""

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import redis

from tests.helpers.real_service import PATIENCE, wait_until


class RealRedis:
    """Keeps nothing on disk: after a restart it is empty."""

    def __init__(self, folder: Path):
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed: apt-get install redis-server")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        address = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder)]
        self._command = [program, *address, "--save", "", "--appendonly", "no", "--daemonize", "no"]

    def start(self) -> "RealRedis":
        """Start, and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_until(self._answers)
        return self

    def kill(self) -> None:
        """Kill it, frozen or not."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def freeze(self) -> None:
        """Let it take connections, and answer nobody."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def connection(self) -> redis.Redis:
        """Connect as somebody else would."""
        return redis.Redis.from_url(self.url)

    def _answers(self) -> bool:
        try:
            with self.connection() as connection:
                return connection.ping()
        except redis.ConnectionError:
            return False
