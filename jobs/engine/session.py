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
from importlib.resources import files
from pathlib import Path
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.find_spark_home import _find_spark_home
from pyspark.java_gateway import launch_gateway
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from jobs.engine import small_shops
from jobs.engine.packing import travelling_code
from recsys.config.settings import Settings
from recsys.errors import ConfigurationError
from recsys.spark_errors import SPARK_ERRORS, first_line

JAVA = 17
_JAVA_OPTIONS = "spark.driver.extraJavaOptions"
_QUERY_LOGGERS = ("SQLQueryContextLogger", "DataFrameQueryContextLogger")
_log = logging.getLogger(__name__)
SPARK_LOG = "spark.log"
"""Log file of Spark's Java side, in the folder of Spark's temporary files."""
JAVA_LOG = "java.log"
"""File beside it with what the Java process printed at its start, before it had a log."""
_SECRET = re.compile("secret|password|token|key", re.IGNORECASE)
LOGGING = "log4j2.properties"
"""File beside it with the settings of the log."""
PARTITIONS_PER_CORE = 4
"""Number of partitions of a shuffle per core; one for a small shop."""
_SESSION_OPTIONS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
    # A bound in bytes has Spark add up the sizes of all columns again for each row, a third of what sending one takes.
    "spark.sql.execution.arrow.maxBytesPerBatch": str((1 << 31) - 1),
    "spark.sql.ansi.enabled": "true",
}
"""Options on which results depend, on whatever cluster."""


def spark_session(settings: Settings) -> SparkSession:
    """Return the running Spark session, or start one.

    What spark-submit or the environment says (`SPARK_REMOTE`, spark-defaults.conf, `PYSPARK_SUBMIT_ARGS`) takes
    precedence over `spark` of the configuration, and that over our defaults.

    Raises:
        ConfigurationError: If there is no Java of version 17 or later, or Spark does not start.
    """
    running = SparkSession.getActiveSession()
    if running:
        return running
    # Each would print the error of a query as JSON with Java's stack trace, before it is raised.
    for name in _QUERY_LOGGERS:
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL + 1)
    if "SPARK_REMOTE" in os.environ or settings.spark.master.startswith("sc://"):
        return _connect(settings)
    check_java()
    scratch = (settings.own_disk / ".spark").resolve()
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # under spark-submit, whose Java process runs already
        return _start(settings, scratch)
    with java_process(_launch_options(settings, scratch), scratch):
        return _start(settings, scratch)


def _connect(settings: Settings) -> SparkSession:
    """Return a session of a Spark Connect server, which has its own settings, but for those of a session."""
    url = os.environ.get("SPARK_REMOTE", settings.spark.master)
    if url.startswith("local"):
        check_java()
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    options = {**_SESSION_OPTIONS, **{key: value for key, value in settings.spark.conf.items() if ".sql." in key}}
    builder = SparkSession.builder.remote(url).appName("recsys")
    for name, value in options.items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
    except ImportError as error:
        raise ConfigurationError(
            f"Spark Connect at {url} needs packages ({first_line(error)}): pip install 'flash-sale-recsys[connect]'"
        ) from error
    except SPARK_ERRORS as error:
        raise ConfigurationError(
            f"Spark Connect at {url} does not answer ({first_line(error)}): start it, or correct spark.master"
        ) from error
    _log.info(f"  Spark Connect at {url} ({'SPARK_REMOTE' if 'SPARK_REMOTE' in os.environ else 'configuration'})")
    if not url.startswith("local"):
        session.addArtifacts(*travelling_code(), pyfile=True)
    return session


def _start(settings: Settings, scratch: Path) -> SparkSession:
    """Start a session in a Java process that runs; set only what that process has not been told."""
    SparkContext._ensure_initialized()
    said = _said()
    master = said.get("spark.master", settings.spark.master)
    is_local = master.startswith("local")
    if python := _python_of_workers(said, settings):
        os.environ.setdefault("PYSPARK_PYTHON", python)  # PySpark reads it from there alone
    builder = SparkSession.builder.appName("recsys")
    for name, value in _unsaid_options(said, settings, scratch).items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
    except SPARK_ERRORS as error:
        raise ConfigurationError(
            f"Spark did not start on {master} ({first_line(error)}): check that the cluster runs and has the secret of "
            f"spark.authenticate.secret; see {scratch / SPARK_LOG} and docs/cluster.md"
        ) from error
    context = SparkContext.getOrCreate()
    line = f"  Spark on {master} ({_origin(settings, master)}), application {context.applicationId}"
    _log.log(logging.DEBUG if is_local and master == settings.spark.master else logging.INFO, line)
    if not is_local:
        for file in travelling_code():
            context.addPyFile(file)
    return session


def _said() -> dict[str, str]:
    """Return the settings that the Java process has been told.

    spark-submit fills in local[*] where nobody named a master: then the configuration's is meant.
    """
    said = dict(SparkConf().getAll())
    if "PYSPARK_GATEWAY_PORT" in os.environ and said.get("spark.master") == "local[*]":
        java: Any = SparkContext._jvm
        command = java.System.getProperty("sun.java.command") or ""
        if not re.search(r"--master|spark\.master", command):
            del said["spark.master"]
    return said


def _unsaid_options(said: Mapping[str, str], settings: Settings, scratch: Path) -> dict[str, str]:
    """Return the options of the configuration, and our defaults, for all that the Java process has not been told."""
    master = said.get("spark.master", settings.spark.master)
    options = {
        "spark.master": master,
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        **_SESSION_OPTIONS,
        "spark.ui.enabled": str(settings.spark.ui).lower(),
        # Our settings of the log are known to a process that we start alone.
        **({"spark.log.level": "WARN"} if "PYSPARK_GATEWAY_PORT" in os.environ else {}),
        **_event_log_options(settings.spark.event_log),
        **(_local_options(scratch, small_shops.is_small(settings.source)) if master.startswith("local") else {}),
        **_network_options(master, {**settings.spark.conf, **said}),
        **settings.spark.conf,
    }
    return {name: value for name, value in options.items() if name not in said}


def _python_of_workers(said: Mapping[str, str], settings: Settings) -> str | None:
    """Return the Python of Spark's workers; None for the first `python3` there.

    On a standalone cluster it is by default at the place of this one, as on this machine. Images and archives have
    theirs elsewhere.
    """
    master = said.get("spark.master", settings.spark.master)
    same_place = sys.executable if master.startswith(("local", "spark://")) else None
    name = "spark.pyspark.python"
    return said.get(name) or settings.spark.conf.get(name) or settings.spark.python or same_place


def _origin(settings: Settings, master: str) -> str:
    if master == settings.spark.master:
        return "spark.master of the configuration"
    told_by = "spark-submit" if "PYSPARK_GATEWAY_PORT" in os.environ else "PYSPARK_SUBMIT_ARGS or spark-defaults.conf"
    return f"{told_by}, instead of spark.master == '{settings.spark.master}'"


def _launch_options(settings: Settings, scratch: Path) -> dict[str, str]:
    """Return the options that Java needs at its start, without those that spark-defaults.conf sets, and secrets.

    PYSPARK_SUBMIT_ARGS need no such care: pyspark puts them behind these, and the last one counts. All users of the
    machine can see the options of a process: a secret is set later.
    """
    is_small = settings.spark.master.startswith("local") and small_shops.is_small(settings.source)
    options = {
        "spark.master": settings.spark.master,
        "spark.driver.memory": settings.spark.driver_memory,
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),  # true if Spark is to choose, as in a shell
        _JAVA_OPTIONS: small_shops.JAVA_OPTIONS if is_small else "-XX:+UseParallelGC",
        "spark.driver.defaultJavaOptions": _java_options(scratch),  # Spark puts them before the others
        **settings.spark.conf,
    }
    defaults = _spark_defaults()
    return {name: value for name, value in options.items() if name not in defaults and not _SECRET.search(name)}


def _spark_defaults() -> set[str]:
    """Return the names of the settings in spark-defaults.conf."""
    folder = os.environ.get("SPARK_CONF_DIR") or Path(_find_spark_home()) / "conf"
    path = Path(folder) / "spark-defaults.conf"
    lines = path.read_text().splitlines() if path.exists() else []
    return {re.split(r"[\s=:]", line.strip(), maxsplit=1)[0] for line in lines if not line.lstrip().startswith("#")}


def _local_options(scratch: Path, is_small: bool) -> dict[str, str]:
    """Return the options of a master on this machine; a cluster has temporary files and starts workers by itself."""
    return {
        # A list separated by commas; a folder whose name has one cannot be written in it.
        "spark.local.dir": tempfile.gettempdir() if "," in str(scratch) else str(scratch),
        "spark.sql.shuffle.partitions": str((1 if is_small else PARTITIONS_PER_CORE) * (os.cpu_count() or 1)),
        # Other machines find the modules only when a worker has added the files of the application to its path.
        "spark.python.daemon.module": "jobs.engine.python_workers",
        **(small_shops.OPTIONS if is_small else {}),
    }


def _event_log_options(folder: str | None) -> dict[str, str]:
    if folder is None:
        return {}
    if "://" not in folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        folder = Path(folder).resolve().as_uri()
    return {"spark.eventLog.enabled": "true", "spark.eventLog.dir": folder}


def runs_on_this_machine() -> bool:
    """Return whether the running session's workers are on this machine alone, so that they see what it sees."""
    if "SPARK_CONNECT_MODE_ENABLED" in os.environ:
        return "SPARK_LOCAL_REMOTE" in os.environ
    return str(SparkContext.getOrCreate().master).startswith("local")


@contextmanager
def java_process(options: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Start Spark's Java process; what it prints in this context goes to a log file, progress bars later to stderr.

    Raises:
        ConfigurationError: If it does not start; with the reason that it printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOGGING).write_text(files("jobs.engine").joinpath(LOGGING).read_text())
    is_ready, (reading, writing) = threading.Event(), os.pipe()
    copying = threading.Thread(target=_copy_output, args=(reading, folder / JAVA_LOG, is_ready), daemon=True)
    copying.start()
    conf = SparkConf(loadDefaults=False).setAppName("recsys").setAll(list(options.items()))
    try:
        SparkContext._ensure_initialized(gateway=launch_gateway(conf, {"stdout": writing, "stderr": writing}))
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


def _java_options(scratch: Path) -> str:
    """Return the options of the Java side that name its log file."""
    properties = {"log4j2.configurationFile": scratch / LOGGING, "recsys.spark.log": scratch / SPARK_LOG}
    return " ".join('"' + re.sub(r'(["\\])', r"\\\1", f"-D{name}={path}") + '"' for name, path in properties.items())


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
