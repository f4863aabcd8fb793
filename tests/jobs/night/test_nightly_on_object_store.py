"""A whole night with the shop's folder in an object store, and what else a shop keeps there."""

import shutil
from datetime import UTC, datetime

import pytest

from jobs.backtest import backtest
from jobs.engine.nights import night
from jobs.engine.run import LOG
from jobs.night.nightly import nightly
from jobs.night.refresh import Refreshed, refresh
from jobs.registry import connection
from jobs.registry.promote_model import log_of
from recsys.config.settings import Settings
from recsys.erasure.logs_and_tables import add_to_erased, erase_from_tables, erased_hashes, hash_of
from recsys.instants import DAY, to_micros
from recsys.pipeline.night_values import read_night_values
from recsys.snapshot import store as snapshot_store
from recsys.storage.journal import steps_of
from recsys.storage.outputs import Outputs
from recsys.storage.places import files_in, sizes_below
from recsys.tables.parts import parts_of, read_arrow
from serving.diagnosis import installation_checks
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, contents, empty_registry

pytestmark = MLFLOW_WARNS


@pytest.fixture(scope="module")
def settings(published_shop, object_store, tmp_path_factory) -> Settings:
    """The published shop, but for the folder, which is a URL."""
    disk = tmp_path_factory.mktemp("disk")
    shutil.copy(empty_registry(), disk / "mlflow.db")
    return published_shop.settings().model_copy(update={"folder": str(object_store("my/shop")), "disk": str(disk)})


@pytest.fixture(scope="module")
def name(settings, spark) -> str:
    return nightly(night(settings))


def test_night_publishes_the_bytes_of_a_night_on_a_disk(settings, name, published_shop):
    assert snapshot_store.current(settings.snapshots_folder) == name
    assert contents(settings.snapshots_folder / name) == contents(published_shop.settings().snapshots_folder / name)


@pytest.mark.parametrize("table", ["events", "user_histories", "fitted_recommenders", "rankings"])
def test_tables_have_the_same_bytes_as_on_a_disk(settings, name, published_shop, table):
    outputs = [night(each).outputs for each in (settings, published_shop.settings())]
    in_store, on_disk = (sorted((part.rows, part.sha256) for part in parts_of(each / table)) for each in outputs)
    assert in_store == on_disk
    assert sum(rows for rows, _ in in_store) > 0


def test_store_holds_of_a_night_what_is_true_and_nothing_else(settings, name):
    run = night(settings)
    folders = {file.split("/")[1] for file in sizes_below(run.folder) if file.startswith("data/")}
    assert {f"data/{folder}" for folder in folders} == {entry["data"] for entry in steps_of(run.folder).values()}
    assert "fit_recommenders" in (run.folder / LOG).read_text()


def test_what_later_nights_need_is_in_the_store_and_not_on_the_disk(settings, name):
    there = {file.partition("/")[0] for file in sizes_below(settings.place)}
    assert {"nights", "night_checks", "models"} <= there
    assert {path.name for path in settings.own_disk.iterdir()} <= {"mlflow.db", "mlartifacts", "snapshots", ".lock"}
    assert [values.as_of for values in read_night_values(settings.place)] == [AS_OF]
    assert [change.action for change in log_of(settings).changes()] == ["first"]
    assert [file.name for file in files_in(settings.place / "models/copies")][-1] == "home_ranker-1.json"


def test_night_run_again_does_nothing_anew(settings, name, object_store):
    before = sizes_below(settings.place)
    object_store.requests.clear()
    assert nightly(night(settings)) == name
    assert {path for path in before if "/data/" in path} == {
        path for path in sizes_below(settings.place) if "/data/" in path
    }
    assert not [path for method, path in object_store.requests if method == "PUT" and path.endswith(".parquet")]


def test_driver_on_a_fresh_machine_pulls_the_snapshot_and_does_no_step_anew(settings, name, object_store, tmp_path):
    fresh = settings.model_copy(update={"disk": str(tmp_path)})
    shutil.copy(settings.own_disk / "mlflow.db", tmp_path)  # of a server, where there are several machines
    object_store.requests.clear()
    assert nightly(night(fresh)) == name
    assert snapshot_store.current(fresh.snapshots_folder) == name
    assert contents(fresh.snapshots_folder / name) == contents(settings.snapshots_folder / name)
    assert not [path for method, path in object_store.requests if method == "PUT" and "/snapshots/" in path]
    assert [each.name for each in fresh.publisher.listing()] == [name]


def test_doctor_writes_to_the_store_and_names_one_that_refuses(settings):
    now = to_micros(datetime.now(UTC))
    found = installation_checks.folder(settings, now)
    assert (found.status, found.found) == ("OK", f"{settings.place} can be written")
    absent = settings.model_copy(update={"folder": "s3://no-such-bucket/shop"})
    found = installation_checks.folder(absent, now)
    assert found.status == "FAIL"
    assert "s3://no-such-bucket/shop: " in found.found


def test_backtest_reads_and_writes_the_store_and_its_report_is_a_file_of_the_disk(settings, name):
    last = to_micros(AS_OF) - DAY
    run = backtest.window(settings, last, last)
    backtest.backtest(run)
    assert backtest.report_of(run).read_text().startswith("<!doctype html>")
    assert any("page_metrics" in file for file in sizes_below(run.folder))


def test_refresh_reads_the_night_in_the_store(settings, name):
    assert refresh(settings) == Refreshed(name, "")
    assert any(file.startswith("refreshes/") for file in sizes_below(settings.place))


def test_erased_user_is_in_no_table_of_the_store(settings, name):
    events = Outputs.of(night(settings).folder) / "events"
    user = read_arrow(events)["user_id"][0].as_py()
    assert add_to_erased(settings.place, user)
    assert not add_to_erased(settings.place, user)
    erased = erase_from_tables(settings.place, user)
    assert {table.rpartition("/")[2] for table in erased} >= {"events", "user_histories", "rankings"}
    assert user not in read_arrow(events)["user_id"].to_pylist()
    assert erased_hashes(settings.place) == [hash_of(user)]
    assert erase_from_tables(settings.place, user) == {}


def test_database_of_one_machine_is_warned_of_where_the_folder_is_in_a_store(settings, caplog):
    connection._connect.cache_clear()
    connection.client_of(settings)
    (said,) = (record.getMessage() for record in caplog.records if "MLflow's database" in record.getMessage())
    assert said.startswith(f"MLflow's database is {settings.own_disk}/mlflow.db, on this machine alone, while 'folder'")
    assert "set mlflow.tracking_uri to a server" in said
