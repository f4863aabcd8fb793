"""Nights killed at any moment, while their snapshots are read."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.engine.nights import night
from jobs.night.nightly import nightly
from recsys.errors import RecsysError
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import Snapshot, SnapshotContents, SnapshotSale
from recsys.snapshot.writer import write_snapshot
from recsys.testing.closeness import assert_same_order
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, SMALL_SPARK, SmallShop, random_rows

pytestmark = MLFLOW_WARNS

SEED = int(os.environ.get("KILL_SEED", "5"))
"""Seed of the moments."""
MOMENTS = (("Night as of", 12), ("score_users", 0))
"""Text of the log after which a night is killed, and within how many seconds; KILL_SEED chooses one."""


class Reader:
    """Opens the served snapshot, and all others in the folder, again and again, as the service does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []
        self.seen: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._stop.wait(0.05):
            try:
                name = snapshot_store.current(self.root)
                Snapshot.open(self.root / name)
                self.seen.add(name)
                self._open_all()
            except Exception as error:
                self.problems.append(repr(error))

    def _open_all(self) -> None:
        for path in [path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith(".")]:
            try:
                Snapshot.open(path)
            except RecsysError:
                if path.exists():  # it may have been removed meanwhile
                    raise


def publish_yesterdays_snapshot(root: Path) -> str:
    ranking = (np.zeros(1, np.int32), np.ones(1, np.float32), np.zeros(1, np.uint8))
    yesterday = AS_OF - timedelta(days=1)
    old = SnapshotContents(
        as_of=yesterday,
        horizon_end=AS_OF,
        sales=[SnapshotSale("s1", "Title", yesterday, AS_OF)],
        policies=[],
        shared_rankings={"popularity": ranking},
        reasons=["popularity"],
        versions={},
        fingerprint="01d01d01",
    )
    name = write_snapshot(root, old, [pa.record_batch({"user_id": pa.array([], pa.string())})])
    snapshot_store.publish(root, name, AS_OF)
    return name


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen]:
    """Run a process in a session of its own, and kill the whole session at the end."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=log.parent, start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def kill_when(process: subprocess.Popen, log: Path, said: str, seconds: float) -> None:
    """Kill a process some seconds after a text is in its log, or let it end if it ends before."""
    while said not in log.read_text() and process.poll() is None:
        time.sleep(0.02)
    time.sleep(seconds)
    process.kill()
    process.wait()


PUBLISH_AND_DIE = """
import os, signal, sys
from pathlib import Path
import jobs.engine.run
from jobs.engine.nights import night
from jobs.night.prepare_experiments import other_versions
from jobs.night.publish_snapshot import PUBLISH_SNAPSHOT
from jobs.night.train_meta_model import read_model
from recsys.snapshot import store as snapshot_store
from recsys.config.settings import load_settings
from recsys.snapshot.format import Snapshot

os.fsync = lambda _: None  # processes are killed, not the machine
run = night(load_settings(Path(sys.argv[1])))
root = run.settings.snapshots_folder
# The children inherit this:
run.shop.ranker(run.as_of, *read_model(run)[:1], other_versions(run))
status, moment, step = None, int(sys.argv[2]), int(sys.argv[3])
events = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir"}
while status != 0:
    moment += step
    child = os.fork()
    if not child:
        touched, within = 0, str(root)

        def die(event, arguments):  # just before the n-th change of the file system
            global touched
            if event in events and str(arguments[0]).startswith(within):
                touched += 1
                if touched == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)
        jobs.engine.run.code_version = lambda step: str(moment)  # so that each publishes another snapshot
        run.do((PUBLISH_SNAPSHOT,))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    for name in [each.name for each in root.iterdir() if each.is_dir() and each.name[0] != "."]:
        Snapshot.open(root / name)
    assert snapshot_store.current(root) in os.listdir(root)
print("killed", moment // step - 1, "times")
"""


def test_night_killed_at_random_moments_and_run_again_publishes_the_same_and_is_never_read_half_written(
    published_shop, tmp_path
):
    shop = SmallShop(tmp_path / "shop").write(*random_rows(1))
    conf = shop.configuration(spark=SMALL_SPARK)
    root = shop.settings().snapshots_folder
    old = publish_yesterdays_snapshot(root)
    nightly_command = [sys.executable, "-m", "cli.main", "nightly", "--conf", str(conf)]
    log = tmp_path / "log"
    rng = np.random.default_rng(SEED)
    with Reader(root) as reader:
        said, at_most = MOMENTS[SEED % len(MOMENTS)]
        with running(nightly_command, log) as process:
            kill_when(process, log, said, rng.uniform(0, at_most))
        assert snapshot_store.current(root) == old
        nightly(night(shop.settings()))
    assert reader.problems == []
    assert old in reader.seen
    assert not list(root.glob(".tmp-*"))
    assert_same_rankings(served(shop), served(published_shop))


def test_publication_killed_at_any_change_of_the_file_system_leaves_complete_snapshots(shop, published_shop, tmp_path):
    """At every third change; KILL_SEED chooses which."""
    root, log = shop.settings().snapshots_folder, tmp_path / "log"
    command = [sys.executable, "-c", PUBLISH_AND_DIE, str(shop.configuration()), str(SEED % 3 - 2), "3"]
    with Reader(root) as reader, running(command, log) as process:
        assert process.wait() == 0, log.read_text()
    assert int(log.read_text().split()[-2]) > 50
    assert reader.problems == []
    assert len(reader.seen) > 1
    assert_same_rankings(served(shop), served(published_shop))


def served(shop: SmallShop) -> Snapshot:
    root = shop.settings().snapshots_folder
    return Snapshot.open(root / snapshot_store.current(root))


def assert_same_rankings(snapshot: Snapshot, expected: Snapshot) -> None:
    assert [sale.sale_id for sale in snapshot.sales] == [sale.sale_id for sale in expected.sales]
    assert snapshot.manifest.n_users == expected.manifest.n_users > 30
    users = [f"u{number:02d}" for number in range(40)]
    for policy in ("meta", "popularity"):
        for user in users:
            found, wanted = snapshot.ranking(policy, user), expected.ranking(policy, user)
            if wanted is None:
                assert found is None
                continue
            np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-4)
            scores = np.full(len(expected.sales), wanted.scores.min())
            scores[wanted.sales] = wanted.scores
            assert_same_order(scores, found.sales, wanted.sales, within=1e-4 * np.abs(scores).max())
