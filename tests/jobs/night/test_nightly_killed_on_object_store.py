"""Two drivers of one night in an object store: one is told who the other is, and goes on when that one is killed."""

import os
import re
import shutil
import sys
import threading

import pytest

from jobs.engine.nights import night
from jobs.night.nightly import nightly
from recsys.errors import BusyError
from recsys.snapshot import store as snapshot_store
from recsys.storage.journal import steps_of
from tests.helpers.object_store import LOST
from tests.helpers.small_shop import MLFLOW_WARNS, SMALL_SPARK, SmallShop, contents, empty_registry
from tests.helpers.standalone_cluster import driver
from tests.helpers.waiting import PATIENCE

pytestmark = MLFLOW_WARNS

_COMMIT = re.compile(r"/journal/00000003\.json")
"""Of the second step: the first entry is the lease."""


@pytest.fixture
def settings(published_shop, object_store, tmp_path):
    """The published shop, but for the folder, which is in a store, and the disk."""
    disk = tmp_path / "disk"
    disk.mkdir()
    shutil.copy(empty_registry(), disk / "mlflow.db")
    return published_shop.settings().model_copy(update={"folder": str(object_store("killed")), "disk": str(disk)})


def test_driver_killed_in_a_commit_is_named_before_and_its_work_goes_on_after(
    settings, published_shop, object_store, spark, caplog
):
    shop = SmallShop(settings.own_disk, source=published_shop.folder)
    conf = shop.configuration(folder=settings.folder, disk=settings.disk, spark=SMALL_SPARK)
    arrived, killed = threading.Event(), threading.Event()

    def fault(method: str, path: str) -> str | None:
        """Keep the answer to a commit until the driver is dead."""
        if method == "PUT" and _COMMIT.search(path) and not killed.is_set():
            arrived.set()
            killed.wait(PATIENCE)
            return LOST
        return None

    object_store.fault = fault
    with driver(settings.own_disk, sys.executable, "-m", "cli.main", "nightly", "--conf", conf) as process:
        assert arrived.wait(5 * PATIENCE)
        with pytest.raises(
            BusyError, match=rf"another run works in \S+ \(process {process.pid} of {os.uname().nodename}\)"
        ):
            nightly(night(settings))
        process.kill()
        process.wait()
        killed.set()
    name = nightly(night(settings))
    (taken_over,) = (record.getMessage() for record in caplog.records if "its work goes on here" in record.getMessage())
    assert f"process {process.pid} of " in taken_over
    assert snapshot_store.current(settings.snapshots_folder) == name
    assert contents(settings.snapshots_folder / name) == contents(published_shop.settings().snapshots_folder / name)
    assert {"validate_tables", "publish_snapshot"} <= set(steps_of(night(settings).folder))
