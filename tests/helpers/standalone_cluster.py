"""A standalone Spark cluster on this machine: a master and workers, as somebody else's script would start them."""

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from pyspark.find_spark_home import _find_spark_home

from tests.helpers.paths import ROOT
from tests.helpers.small_shop import SHORT_LIVED_JAVA, SMALL_SPARK
from tests.helpers.waiting import wait_until

BIN = Path(sys.executable).parent


def free_port() -> int:
    """Return a port of this machine that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def driver(folder: Path, *command: object) -> subprocess.Popen[str]:
    """Start a driver in a folder outside of the project; its output is that of Python and of Spark's Java side."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
    }
    return subprocess.Popen(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


class Cluster:
    """A running cluster.

    Its processes have folders of their own, a mask that hides their files from other users, and nothing of this
    process's environment: neither a path of modules nor the Python of its workers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._secret, self._home = folder, secrets.token_hex(16), _find_spark_home()
        self._processes: list[subprocess.Popen[bytes]] = []
        port = free_port()
        (folder / "cluster.conf").write_text(
            f"spark.authenticate true\nspark.authenticate.secret {self._secret}\nspark.network.crypto.enabled true\n"
        )
        self.master = f"spark://127.0.0.1:{port}"
        self._start("master", "master.Master", "--port", port)

    @property
    def spark(self) -> dict[str, Any]:
        """Settings of a session on this cluster for a small shop."""
        own = {
            "spark.authenticate.secret": self._secret,
            "spark.driver.host": "127.0.0.1",
            "spark.executor.memory": "512m",
            "spark.executor.extraJavaOptions": SHORT_LIVED_JAVA,
        }
        return {**SMALL_SPARK, "master": self.master, "conf": {**SMALL_SPARK["conf"], **own}}

    def add_worker(self, without: Path | None = None) -> bool:
        """Start a worker of one core and wait until the master knows it.

        Args:
            without: A folder that the worker does not see, as if it were another machine.

        Returns:
            Whether it runs; not where the system does not let this user hide a folder.
        """
        number = len(self._processes)
        hidden = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{without}" && exec "$@"', "sh"] * bool(
            without
        )
        options = ("--cores", 1, "--memory", "600m", self.master)
        process = self._start(f"worker{number}", "worker.Worker", *options, before=hidden)
        log = self.folder / "master/log"
        wait_until(lambda: log.read_text().count("Registering worker") == number or process.poll() is not None)
        return process.poll() is None

    def executors(self) -> list[psutil.Process]:
        """Return the running executors."""
        commands = [(each, each.as_dict(["cmdline"], ad_value=[])["cmdline"]) for each in self._children()]
        return [process for process, command in commands if "CoarseGrainedExecutorBackend" in " ".join(command)]

    def stop(self) -> None:
        """Kill all processes of the cluster."""
        for process in [*self._children(), *self._processes]:
            with suppress(psutil.NoSuchProcess):  # ended meanwhile
                process.kill()
        for process in self._processes:
            process.wait()

    def _children(self) -> list[psutil.Process]:
        running = [process.pid for process in self._processes if process.poll() is None]
        return [child for pid in running for child in psutil.Process(pid).children(recursive=True)]

    def _start(self, name: str, main: str, *arguments: object, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        own = self.folder / name
        own.mkdir()
        environment = {
            **{key: os.environ[key] for key in ("PATH", "JAVA_HOME", "HOME") if key in os.environ},
            "SPARK_HOME": self._home,
            "SPARK_LOCAL_DIRS": str(own),
            "SPARK_WORKER_DIR": str(own),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": SHORT_LIVED_JAVA,
        }
        command = [*before, f"{self._home}/bin/spark-class", f"org.apache.spark.deploy.{main}", *map(str, arguments)]
        command += ["--host", "127.0.0.1", "--webui-port", "0", "--properties-file", str(self.folder / "cluster.conf")]
        with (own / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=own, env=environment, stdout=log, stderr=log, umask=0o027)
        self._processes.append(process)
        return process


@contextmanager
def standalone_cluster(folder: Path, n_workers: int = 2) -> Iterator[Cluster]:
    """Start a cluster, and stop it at the end."""
    cluster = Cluster(folder)
    try:
        for _ in range(n_workers):
            cluster.add_worker()
        yield cluster
    finally:
        cluster.stop()
