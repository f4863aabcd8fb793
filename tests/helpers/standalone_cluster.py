"""A standalone Spark cluster on this machine: a master and workers, as somebody else's script would start them."""

import os
import re
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from pyspark.find_spark_home import _find_spark_home

from tests.helpers.small_shop import SHORT_LIVED_JAVA
from tests.helpers.waiting import wait_until


@dataclass
class Cluster:
    """A running cluster."""

    master: str
    secret: str
    workers: list[subprocess.Popen[bytes]]
    folder: Path

    @property
    def spark(self) -> dict[str, object]:
        """Settings of a session on this cluster for a small shop; both workers take part."""
        return {
            "master": self.master,
            "driver_memory": "1g",
            "conf": {
                "spark.authenticate.secret": self.secret,
                "spark.driver.host": "127.0.0.1",
                "spark.driver.bindAddress": "127.0.0.1",
                "spark.executor.memory": "512m",
                "spark.sql.shuffle.partitions": "2",
                "spark.driver.extraJavaOptions": SHORT_LIVED_JAVA,
                "spark.executor.extraJavaOptions": SHORT_LIVED_JAVA,
                "spark.sql.codegen.wholeStage": "false",
                "spark.sql.codegen.factoryMode": "NO_CODEGEN",
            },
        }

    def executors(self) -> list[psutil.Process]:
        """Return the running executors."""
        children = [child for worker in self.workers for child in psutil.Process(worker.pid).children(recursive=True)]
        return [child for child in children if "CoarseGrainedExecutorBackend" in " ".join(_command(child))]


@contextmanager
def standalone_cluster(folder: Path, n_workers: int = 2) -> Iterator[Cluster]:
    """Start a master and workers of one core, each with folders of its own, and stop them at the end.

    Nothing of this process's environment reaches them: neither a path of modules nor the Python of its workers.
    """
    folder.mkdir(exist_ok=True)
    secret, port = secrets.token_hex(16), _free_port()
    (folder / "cluster.conf").write_text(
        f"spark.authenticate true\nspark.authenticate.secret {secret}\nspark.network.crypto.enabled true\n"
    )
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, main: str, *arguments: object) -> subprocess.Popen[bytes]:
        own = folder / name
        (own / "tmp").mkdir(parents=True)
        environment = {
            **{key: os.environ[key] for key in ("PATH", "JAVA_HOME", "HOME") if key in os.environ},
            "SPARK_HOME": _find_spark_home(),
            "SPARK_LOCAL_DIRS": str(own / "tmp"),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": SHORT_LIVED_JAVA,
            "SPARK_WORKER_DIR": str(own / "work"),
        }
        command = [f"{_find_spark_home()}/bin/spark-class", f"org.apache.spark.deploy.{main}", *map(str, arguments)]
        command += ["--host", "127.0.0.1", "--webui-port", "0", "--properties-file", str(folder / "cluster.conf")]
        with (own / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=own, env=environment, stdout=log, stderr=log, umask=0o027)
        started.append(process)
        return process

    try:
        start("master", "master.Master", "--port", port)
        master = f"spark://127.0.0.1:{port}"
        workers = [
            start(f"worker{number}", "worker.Worker", "--cores", 1, "--memory", "600m", master)
            for number in range(n_workers)
        ]
        log = folder / "master/log"
        wait_until(lambda: len(re.findall("Registering worker", log.read_text())) == n_workers, 60)
        yield Cluster(master, secret, workers, folder)
    finally:
        for process in reversed(started):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
