"""Creation of the Spark session."""

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.java_gateway import launch_gateway
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from recsys.config.settings import Settings
from recsys.errors import ConfigurationError

JAVA = 17
_JAVA_OPTIONS = "spark.driver.extraJavaOptions"
_LOGGING = Path(__file__).with_name("log4j2.properties")
_QUERY_LOGGERS = ("SQLQueryContextLogger", "DataFrameQueryContextLogger")
_log = logging.getLogger(__name__)
SPARK_LOG = "spark.log"
"""Log file of Spark's Java side, in the folder of Spark's temporary files."""
JAVA_LOG = "java.log"
"""File beside it with what the Java process printed at its start, before it had a log."""


def spark_session(settings: Settings) -> SparkSession:
    """Return the running Spark session, or start one.

    Raises:
        ConfigurationError: If there is no Java of version 17 or later, or it does not start.
    """
    running = SparkSession.getActiveSession()
    if running:
        return running
    if "SPARK_REMOTE" not in os.environ:
        check_java()
    if settings.spark.master.startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    scratch = (Path(settings.folder) / ".spark").resolve()
    options = {
        "spark.master": settings.spark.master,
        "spark.driver.memory": settings.spark.driver_memory,
        _JAVA_OPTIONS: _java_options(scratch / SPARK_LOG, settings.spark.conf),
        # A list separated by commas; a folder whose name has one cannot be written in it.
        "spark.local.dir": tempfile.gettempdir() if "," in str(scratch) else str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(4 * (os.cpu_count() or 1)),
        "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
        "spark.sql.ansi.enabled": "true",
        "spark.ui.enabled": "false",
        **_python_options(settings.spark.master),
        **_network_options(settings.spark.master, settings.spark.conf),
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
        **{name: value for name, value in settings.spark.conf.items() if name != _JAVA_OPTIONS},
    }
    for (
        name
    ) in _QUERY_LOGGERS:  # each would print the error of a query as JSON with Java's stack trace, before it is raised
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL + 1)
    builder = SparkSession.builder.appName("recsys")
    for name, value in options.items():
        builder = builder.config(name, value)
    if {"SPARK_REMOTE", "PYSPARK_GATEWAY_PORT"} & os.environ.keys():  # there is a Java process already
        return builder.getOrCreate()
    with java_process(options, scratch):
        return builder.getOrCreate()


@contextmanager
def java_process(options: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Start Spark's Java process; what it prints in this context goes to a log file, progress bars later to stderr.

    Raises:
        ConfigurationError: If it does not start; with the reason that it printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    is_ready, (reading, writing) = threading.Event(), os.pipe()
    copying = threading.Thread(target=_copy_output, args=(reading, folder / JAVA_LOG, is_ready), daemon=True)
    copying.start()
    conf = SparkConf(loadDefaults=False).setAppName("recsys").setAll(list(options.items()))
    try:
        SparkContext(conf=conf, gateway=launch_gateway(conf, {"stdout": writing, "stderr": writing}))
    except PySparkRuntimeError as error:
        os.close(writing)
        copying.join()
        printed = (folder / JAVA_LOG).read_text(errors="replace").splitlines()
        reasons = [line for line in printed if line and not line.startswith(("Picked up", "WARNING"))]
        raise ConfigurationError(
            f"Spark's Java process did not start ({'; '.join(reasons[:3])[:500] or error}), its output is in "
            f"{folder / JAVA_LOG}: correct 'spark' in the configuration, or the environment variable JAVA_TOOL_OPTIONS"
        ) from error
    os.close(writing)
    yield
    is_ready.set()


def _copy_output(reading: int, log: Path, is_ready: threading.Event) -> None:
    """Copy what the Java process prints to a file until it is ready, and then to stderr."""
    with log.open("wb", buffering=0) as file:
        while printed := os.read(reading, 65536):
            os.write(2 if is_ready.is_set() else file.fileno(), printed)


def _java_options(log: Path, conf: Mapping[str, str]) -> str:
    """Return the options of the Java side: its log file, and the configured ones or a garbage collector for
    throughput."""
    properties = {"log4j2.configurationFile": _LOGGING.resolve(), "recsys.spark.log": log}
    quoted = ('"' + re.sub(r'(["\\])', r"\\\1", f"-D{name}={path}") + '"' for name, path in properties.items())
    return " ".join((*quoted, conf.get(_JAVA_OPTIONS, "-XX:+UseParallelGC")))


def _network_options(master: str, conf: Mapping[str, str]) -> dict[str, str]:
    """Return the options that keep other machines' users away from the ports of the driver and its blocks.

    A local master listens on loopback only. YARN and Kubernetes hand out the secret of an application themselves; a
    standalone cluster has to be given one.
    """
    if master.startswith("local"):
        return {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
    if master.startswith("spark://") and "spark.authenticate.secret" not in conf:
        _log.warning(
            f"spark.master == '{master}' without a secret: whoever reaches its ports can run code. Start the cluster "
            "with spark.authenticate.secret, and set it in spark.conf too: see docs/operations.md"
        )
        return {}
    return {"spark.authenticate": "true", "spark.network.crypto.enabled": "true"}


def _python_options(master: str) -> dict[str, str]:
    """Return the option that lets Python workers of this machine start with their modules imported.

    Other machines find the modules only when a worker has added the files of the application to its path.
    """
    return {"spark.python.daemon.module": "jobs.engine.python_workers"} if master.startswith("local") else {}


def check_java() -> None:
    """Check that a Java is installed that Spark runs on.

    Raises:
        ConfigurationError: If not; names the command that installs one.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not Path(java).exists():
        raise ConfigurationError(
            f"no Java found, Spark needs {JAVA} or later: sudo apt-get install openjdk-17-jre-headless"
        )
    # Java reads further options from these variables; wrong ones are told when Spark starts.
    plain = {name: value for name, value in os.environ.items() if name not in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS")}
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, env=plain).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', answer)
    if version is None or int(version[1]) < JAVA:
        found = version[1] if version else answer.strip()[:80]
        raise ConfigurationError(
            f"Java {found} at {java}, Spark needs {JAVA} or later: sudo apt-get install openjdk-17-jre-headless"
        )
