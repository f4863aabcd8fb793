"""A night on a standalone cluster of two workers that share no disk with the driver, its folder in an object store."""

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator

import pytest

from jobs.engine.nights import night
from recsys.snapshot import store as snapshot_store
from tests.helpers.paths import ROOT
from tests.helpers.small_shop import MLFLOW_WARNS, SMALL_SPARK, SmallShop, contents, empty_registry
from tests.helpers.standalone_cluster import BIN, Cluster, driver, standalone_cluster

pytestmark = MLFLOW_WARNS


@pytest.fixture(scope="module")
def shop(published_shop, tmp_path_factory) -> SmallShop:
    """A shop with the raw tables of the published one, and nothing else yet."""
    folder = tmp_path_factory.mktemp("shop_on_cluster")
    (folder / "var").mkdir()
    shutil.copy(empty_registry(), folder / "var/mlflow.db")
    return SmallShop(folder, source=published_shop.folder)


@pytest.fixture(scope="module")
def cluster(shop, tmp_path_factory) -> Iterator[Cluster]:
    """Two workers that see neither the shop's folder nor its disk, as if they were other machines."""
    with standalone_cluster(tmp_path_factory.mktemp("cluster"), n_workers=0) as running:
        if not all(running.add_worker(without=shop.folder) for _ in range(2)):
            pytest.skip("a worker without the folder needs the right to mount: run as root")
        yield running


def test_night_in_a_store_whose_executor_is_killed_while_it_scores_publishes_the_bytes_of_one_machine(
    published_shop, shop, cluster, object_store
):
    store = {f"spark.executorEnv.{name}": value for name, value in os.environ.items() if name.startswith("AWS_")}
    settings = shop.settings(folder=str(object_store("shop")), disk=str(shop.folder / "var"))
    conf = shop.configuration(
        folder=settings.folder,
        disk=settings.disk,
        spark={**cluster.spark, "conf": {**cluster.spark["conf"], **store}},
    )
    said = ""
    with driver(shop.folder, sys.executable, "-m", "cli.main", "nightly", "--conf", conf) as process:
        assert process.stdout
        for line in process.stdout:
            said += line
            if "prepare_experiments" in line:  # the step before score_users
                os.kill(cluster.executors()[0].pid, signal.SIGKILL)
    assert process.returncode == 0, said
    assert f"Spark on {cluster.master} (spark.master of the configuration), application app-" in said
    assert re.search(rf"2 executors on \S+ see {settings.place}/nights/", said), said
    assert "exited with code 137" in "".join(path.read_text() for path in cluster.folder.glob("worker*/log"))
    (snapshot,) = snapshot_store.names(settings.snapshots_folder)
    expected = contents(published_shop.settings().snapshots_folder / snapshot)
    assert expected
    assert contents(settings.snapshots_folder / snapshot) == expected


def test_master_of_spark_submit_is_used_and_executors_without_the_folder_are_named_before_they_write(shop, cluster):
    folder = night(shop.settings()).folder
    options = [f"{name}={value}" for name, value in cluster.spark["conf"].items() if "driver" not in name]
    with driver(
        shop.folder,
        *(BIN / "spark-submit", "--master", cluster.master, *(word for each in options for word in ("--conf", each))),
        *("--conf", "spark.driver.host=127.0.0.1"),
        *(ROOT / "jobs/night/build_histories.py", "--conf", shop.configuration(spark=SMALL_SPARK)),
    ) as process:
        said, _ = process.communicate()
    assert process.returncode == 1, said
    assert f"Spark on {cluster.master} (spark-submit, instead of spark.master == 'local[2]'), application app-" in said
    (error,) = (line for line in said.splitlines() if line.startswith("error: "))
    assert f"what is written here to {folder} is not seen there" in error
    assert contents(folder / "data") == {}
