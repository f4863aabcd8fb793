"""A night by Spark Connect, on a server that knows neither the project's code nor the Python of the driver."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pyspark.find_spark_home import _find_spark_home

from tests.helpers.small_shop import MLFLOW_WARNS, SHORT_LIVED_JAVA, SMALL_SPARK, SmallShop, contents, empty_registry
from tests.helpers.standalone_cluster import driver, free_port
from tests.helpers.waiting import wait_until

pytestmark = MLFLOW_WARNS

for _module in ("grpc_status", "zstandard"):
    pytest.importorskip(_module, reason="Spark Connect needs it: pip install 'flash-sale-recsys[connect]'")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """The address of a Connect server with two cores."""
    folder, port = tmp_path_factory.mktemp("connect"), free_port()
    conf = {
        "spark.connect.grpc.binding.port": port,
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.local.dir": folder,
        "spark.driver.extraJavaOptions": SHORT_LIVED_JAVA,
    }
    home, main = _find_spark_home(), "org.apache.spark.sql.connect.service.SparkConnectServer"
    environment = {key: os.environ[key] for key in ("PATH", "JAVA_HOME", "HOME") if key in os.environ}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [f"{home}/bin/spark-submit", "--master", "local[2]", "--driver-memory", "1g", "--class", main]
            + [word for name, value in conf.items() for word in ("--conf", f"{name}={value}")]
            + ["spark-internal"],
            cwd=folder,
            env={**environment, "SPARK_HOME": home, "PYSPARK_PYTHON": sys.executable},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: b"Spark Connect server started" in (folder / "log").read_bytes())
        yield f"sc://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_night_by_connect_publishes_the_bytes_of_one_machine(published_shop, server, tmp_path):
    (tmp_path / "var").mkdir()
    shutil.copy(empty_registry(), tmp_path / "var/mlflow.db")
    shop = SmallShop(tmp_path, source=published_shop.folder)
    conf = shop.configuration(spark={**SMALL_SPARK, "master": server})
    with driver(tmp_path, sys.executable, "-m", "cli.main", "nightly", "--conf", conf) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    assert f"Spark Connect at {server} (configuration)" in said
    assert "1 executor on " in said
    assert contents(shop.settings().snapshots_folder) == contents(published_shop.settings().snapshots_folder)
