"""Fixtures that tests of several packages use: a small Spark session, the command, a browser."""

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from pyspark.sql import SparkSession

from jobs.engine.nights import night
from jobs.engine.session import spark_session
from jobs.night.nightly import nightly
from tests.helpers.small_shop import SMALL_SPARK, SmallShop, random_rows

with socket.socket() as free:  # Spark's Python workers inherit what is set before Spark starts
    free.bind(("127.0.0.1", 0))
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{free.getsockname()[1]}"
os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}

settings.register_profile("recsys", deadline=None, max_examples=50)
settings.load_profile("recsys")


SLOWEST_FILES = [
    "tests/test_experiment_end_to_end.py",
    "tests/serving/test_never_closed.py",
    "tests/test_end_to_end.py",
    "tests/test_notebooks.py",
    "tests/cluster/test_cluster.py",
    "tests/serving/test_attacks.py",
    "tests/cli/test_main.py",
    "tests/cli/commands/test_photos.py",
    "tests/jobs/backtest/test_check_leaks.py",
    "tests/jobs/night/test_nightly.py",
    "tests/jobs/night/test_build_themes.py",
    "tests/conf/test_complete_journey.py",
    "tests/jobs/night/test_validate_tables.py",
    "tests/jobs/night/test_nightly_killed.py",
    "tests/serving/process/test_workers.py",
    "tests/jobs/night/test_train_meta_model.py",
    "tests/jobs/night/test_tag_images.py",
    "tests/jobs/night/test_nightly_with_little.py",
    "tests/jobs/night/test_refresh.py",
    "tests/jobs/night/test_compact_exposures.py",
]
"""Files that take more than 35 CPU seconds, the slowest of a kind first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slowest files, so that no process is left alone with one of them at the end."""
    order = {file: position for position, file in enumerate(SLOWEST_FILES)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))


@pytest.fixture(scope="session", autouse=True)
def without_waits_for_the_disk() -> Iterator[None]:
    """Tests kill processes, never the machine: what they write need not be on the disk at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One session for all tests, as the jobs start it but with less memory."""
    shop = SmallShop(tmp_path_factory.mktemp("spark"))
    session = spark_session(shop.settings(spark={**SMALL_SPARK, "driver_memory": "2g"}))
    yield session
    session.stop()


@pytest.fixture(scope="session")
def published_shop(spark, tmp_path_factory) -> SmallShop:
    """A shop after its night; tests must not change it."""
    shop = SmallShop(tmp_path_factory.mktemp("shop")).write(*random_rows(1))
    nightly(night(shop.settings()))
    return shop


@pytest.fixture(scope="module")
def object_store() -> Iterator[Any]:
    """An S3 server with an empty bucket, see `tests.helpers.object_store`."""
    from tests.helpers.object_store import running_object_store

    with running_object_store() as store:
        yield store


@pytest.fixture(scope="module")
def compiled(spark: SparkSession) -> Iterator[SparkSession]:
    """The session with code generation, for tests with so many rows that compiling is worth while."""
    settings = {"spark.sql.codegen.wholeStage": "true", "spark.sql.codegen.factoryMode": "FALLBACK"}
    before = {name: spark.conf.get(name) for name in settings}
    for name, value in settings.items():
        spark.conf.set(name, value)
    yield spark
    for name, value in before.items():
        spark.conf.set(name, value)


@pytest.fixture
def run(monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command as a shell does and returns exit status, stdout and stderr."""

    from cli.main import main

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["recsys", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run_command


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium; tests are skipped if it is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="the page is tested with selenium, not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("the page is tested in chromium with chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (
        *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
        *("disable-component-update", "disable-sync", "window-size=1300,850"),
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(f"--{flag}")
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield session
    session.quit()
