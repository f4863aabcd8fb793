import os
import shlex
import sys
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

import psutil
import pyarrow as pa
import pytest
from pyspark.errors import PySparkRuntimeError

from jobs.engine import session
from jobs.engine.session import (
    _java_options,
    _launch_options,
    _network_options,
    _python_of_workers,
    _said,
    _unsaid_options,
    check_java,
    java_process,
    spark_session,
)
from recsys.errors import ConfigurationError
from tests.helpers.small_shop import SmallShop
from tests.helpers.waiting import wait_until


@pytest.fixture
def java_home(tmp_path, monkeypatch) -> Path:
    """An empty JAVA_HOME."""
    (tmp_path / "java/bin").mkdir(parents=True)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "java"))
    return tmp_path / "java"


def install(java_home: Path, version: str) -> None:
    """Write a `java` that prints this version."""
    java = java_home / "bin/java"
    java.write_text(f"#!/bin/sh\necho '{version}' >&2\n")
    java.chmod(0o755)


def test_running_session_is_reused(spark, tmp_path):
    assert spark_session(SmallShop(tmp_path).settings()) is spark


def test_python_workers_fork_from_a_process_of_one_thread_that_has_imported_what_a_night_needs(spark):
    def describe_worker(batches):
        import gc
        import sys

        parent = Path(f"/proc/{os.getppid()}/task")
        threads = [thread.joinpath("comm").read_text().strip() for thread in parent.iterdir()]
        for batch in batches:
            rows = len(batch)
            facts = ["recsys.ranking.scorer" in sys.modules], [gc.get_freeze_count() > 0], [" ".join(threads)]
            yield pa.RecordBatch.from_arrays(
                [pa.array(fact * rows) for fact in facts], ["imported", "frozen", "threads"]
            )

    worker = spark.range(1).mapInArrow(describe_worker, "imported boolean, frozen boolean, threads string").first()
    assert (worker.imported, worker.frozen) == (True, True)
    threads = [thread for thread in worker.threads.split() if thread != "jemalloc_bg_thd"]  # which knows of forks
    assert len(threads) == 1


def test_no_port_of_a_local_session_listens_to_other_machines(spark):
    assert spark.range(10).count() == 10
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = [
        each.laddr.ip for process in processes for each in process.net_connections() if each.status == "LISTEN"
    ]
    assert len(listening) >= 3  # the driver, its blocks, the gateway from Python
    assert {ip_address(address.removeprefix("::ffff:")).is_loopback for address in listening} == {True}


@pytest.mark.parametrize(
    ("master", "conf", "expected"),
    [
        ("yarn", {}, "true"),
        ("k8s://https://cluster:6443", {}, "true"),
        ("spark://head:7077", {"spark.authenticate.secret": "s"}, "true"),
        ("spark://head:7077", {}, None),
    ],
)
def test_cluster_authenticates_where_it_has_a_secret_and_warns_where_it_has_none(caplog, master, conf, expected):
    assert _network_options(master, conf).get("spark.authenticate") == expected
    assert ("without a secret" in caplog.text) == (expected is None)


def test_quotes_and_backslashes_of_a_folder_are_part_of_the_name_of_sparks_log():
    """Spark splits the options as a shell does, inside of double quotes too."""
    options = shlex.split(_java_options(Path('/a "b" \\c $d')))
    assert '-Drecsys.spark.log=/a "b" \\c $d/spark.log' in options


def test_missing_java_is_an_error_with_the_command_that_installs_it(java_home, monkeypatch, tmp_path):
    for change in (lambda: None, lambda: monkeypatch.delenv("JAVA_HOME")):
        change()
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(
            ConfigurationError, match=r"no Java found, Spark needs 17 .*: sudo apt-get install openjdk-17"
        ):
            check_java()


@pytest.mark.parametrize("version", ['openjdk version "11.0.22" 2024-01-16', 'java version "1.8.0_392"', "oops"])
def test_too_old_java_is_an_error_with_its_version_and_the_command_that_installs_another(java_home, version):
    install(java_home, version)
    with pytest.raises(ConfigurationError) as error:
        check_java()
    assert f"at {java_home}/bin/java, Spark needs 17 or later: sudo apt-get install openjdk-17" in str(error.value)


@pytest.mark.parametrize("version", ['openjdk version "17.0.1"', 'java version "21" 2023-09-19 LTS'])
def test_java_17_or_later_is_accepted(java_home, version):
    install(java_home, version)
    check_java()


def test_options_of_java_are_left_out_when_its_version_is_asked_for(java_home, monkeypatch):
    java = java_home / "bin/java"
    java.write_text('#!/bin/sh\necho "$JAVA_TOOL_OPTIONS"\'openjdk version "17.0.1"\' >&2\n')
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", 'version "9" ')
    check_java()


class Gateway:
    """Stands in for the start of Spark's Java process, which prints and then runs or ends."""

    def __init__(self, printed: bytes, ends: bool = False):
        self.printed, self.ends = printed, ends

    def __call__(self, _: object, streams: dict[str, int]) -> "Gateway":
        assert streams["stdout"] == streams["stderr"]
        self.stream = os.dup(streams["stderr"])  # as the process would have it
        os.write(self.stream, self.printed)
        if self.ends:
            os.close(self.stream)
            raise PySparkRuntimeError(errorClass="JAVA_GATEWAY_EXITED", messageParameters={})
        return self


CLUSTER = {"master": "spark://head:7077", "python": "/opt/python", "conf": {"spark.sql.ansi.enabled": "false"}}


def test_what_spark_was_told_wins_over_the_configuration_and_that_over_the_defaults(tmp_path):
    settings = SmallShop(tmp_path).settings(spark=CLUSTER)
    said = {"spark.master": "yarn", "spark.sql.session.timeZone": "Europe/Paris"}
    options = _unsaid_options(said, settings, tmp_path)
    assert not options.keys() & said.keys()
    assert options["spark.sql.ansi.enabled"] == "false"
    assert options["spark.sql.execution.arrow.maxRecordsPerBatch"] == "20000"
    assert _unsaid_options({}, settings, tmp_path)["spark.master"] == "spark://head:7077"


@pytest.mark.parametrize("name", ["spark.local.dir", "spark.python.daemon.module", "spark.sql.shuffle.partitions"])
@pytest.mark.parametrize(("master", "is_set"), [("local[2]", True), ("k8s://https://c", False), ("yarn", False)])
def test_temporary_files_workers_and_partitions_of_a_cluster_are_its_own(tmp_path, master, is_set, name):
    assert (name in _unsaid_options({"spark.master": master}, SmallShop(tmp_path).settings(), tmp_path)) == is_set


def test_event_log_and_pages_of_spark_are_on_by_configuration(tmp_path):
    off = _unsaid_options({}, SmallShop(tmp_path).settings(), tmp_path)
    assert (off["spark.ui.enabled"], "spark.eventLog.enabled" in off) == ("false", False)
    changed = {"ui": True, "event_log": str(tmp_path / "log")}
    on = _unsaid_options({}, SmallShop(tmp_path).settings(spark=changed), tmp_path)
    assert (on["spark.ui.enabled"], on["spark.eventLog.enabled"]) == ("true", "true")
    assert (on["spark.eventLog.dir"], (tmp_path / "log").is_dir()) == ((tmp_path / "log").as_uri(), True)
    in_a_bucket = SmallShop(tmp_path).settings(spark={"event_log": "s3a://logs/spark"})
    assert _unsaid_options({}, in_a_bucket, tmp_path)["spark.eventLog.dir"] == "s3a://logs/spark"


@pytest.mark.parametrize(
    ("said", "changes", "python"),
    [
        ({}, {}, sys.executable),
        ({"spark.master": "spark://head:7077"}, {}, sys.executable),
        ({"spark.master": "yarn"}, {}, None),
        ({"spark.master": "yarn"}, {"python": "/opt/python"}, "/opt/python"),
        ({"spark.pyspark.python": "/said"}, {"python": "/opt/python"}, "/said"),
        ({}, {"python": "/opt/python", "conf": {"spark.pyspark.python": "/in_conf"}}, "/in_conf"),
    ],
)
def test_workers_run_the_python_that_was_chosen_or_that_of_the_drivers_path(tmp_path, said, changes, python):
    assert _python_of_workers(said, SmallShop(tmp_path).settings(spark=changes)) == python


def test_secrets_and_what_spark_defaults_says_are_no_options_of_javas_command(tmp_path, monkeypatch):
    (tmp_path / "spark-defaults.conf").write_text("# x\nspark.driver.memory 9g\n  spark.ui.port=4050\n\n")
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    conf = {"spark.authenticate.secret": "s", "spark.ui.port": "4060", "spark.jars.packages": "a:b:1"}
    options = _launch_options(SmallShop(tmp_path).settings(spark={"conf": conf}), tmp_path)
    assert not options.keys() & {"spark.driver.memory", "spark.ui.port", "spark.authenticate.secret"}
    assert (options["spark.master"], options["spark.jars.packages"]) == ("local[*]", "a:b:1")


@pytest.mark.parametrize(
    ("command", "master"),
    [
        ("org.apache.spark.deploy.SparkSubmit job.py", None),
        ("org.apache.spark.deploy.SparkSubmit --master local[*] job.py", "local[*]"),
        ("org.apache.spark.deploy.SparkSubmit --conf spark.master=local[*] job.py", "local[*]"),
    ],
)
def test_master_that_spark_submit_fills_in_is_not_taken_for_one_that_was_chosen(monkeypatch, command, master):
    java = SimpleNamespace(System=SimpleNamespace(getProperty=lambda _: command))
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    monkeypatch.setattr(session, "SparkContext", SimpleNamespace(_jvm=java))
    monkeypatch.setattr(session, "SparkConf", lambda: SimpleNamespace(getAll=lambda: [("spark.master", "local[*]")]))
    assert _said().get("spark.master") == master


def test_java_prints_to_a_log_until_it_is_ready_and_its_progress_to_stderr(tmp_path, monkeypatch, capfd):
    gateway = Gateway(b"WARNING: Using incubator modules\n")
    monkeypatch.setattr(session, "launch_gateway", gateway)
    monkeypatch.setattr(session, "SparkContext", SimpleNamespace(_ensure_initialized=lambda gateway: None))
    with java_process({}, tmp_path):
        os.write(gateway.stream, b"Setting default log level\n")
        log = tmp_path / session.JAVA_LOG
        wait_until(lambda: log.exists() and log.read_bytes().count(b"\n") == 2)
    assert capfd.readouterr().err == ""
    os.write(gateway.stream, b"[Stage 1:>  (0 + 2) / 4]")
    os.close(gateway.stream)
    wait_until(lambda: capfd.readouterr().err.startswith("[Stage 1"))


def test_java_that_does_not_start_tells_why(tmp_path, monkeypatch):
    printed = b"Picked up JAVA_TOOL_OPTIONS: -Xmx1k\nInvalid maximum heap size: -Xmx1k\nError: no JVM\n"
    monkeypatch.setattr(session, "launch_gateway", Gateway(printed, ends=True))
    with pytest.raises(ConfigurationError) as error, java_process({}, tmp_path):
        pass
    said = "Spark's Java process did not start (Invalid maximum heap size: -Xmx1k; Error: no JVM), its output is in"
    assert str(error.value).startswith(f"{said} {tmp_path / 'java.log'}: correct 'spark'")
