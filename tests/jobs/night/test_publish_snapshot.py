from datetime import timedelta

import pytest

from jobs.engine.nights import night
from jobs.night.publish_snapshot import publish_if_latest
from recsys.instants import DAY, to_micros
from recsys.snapshot import store as snapshot_store
from tests.helpers.small_shop import AS_OF, SmallShop
from tests.helpers.snapshots import write


@pytest.mark.parametrize(
    ("publishes", "days_of_current", "is_published"),
    [
        (True, None, True),
        (True, -1, True),
        (True, 0, True),  # the same night again, with other data
        (True, 1, False),
        (False, None, False),
        (False, -1, False),
    ],
)
def test_snapshot_is_published_unless_a_later_one_is_served_or_the_run_publishes_nothing(
    tmp_path, publishes, days_of_current, is_published
):
    settings = SmallShop(tmp_path).settings()
    root = settings.snapshots_folder
    before = None
    if days_of_current is not None:
        as_of = AS_OF + timedelta(days=days_of_current)
        before = write(root, as_of=as_of, horizon_end=as_of + timedelta(hours=36), fingerprint="beforeit12").name
        snapshot_store.publish(root, before, AS_OF)
    name = write(root).name
    publish_if_latest(night(settings, to_micros(AS_OF), publishes=publishes), name)
    assert snapshot_store.current(root) == (name if is_published else before)
    assert (root / name).is_dir()


def test_night_knows_whether_it_publishes(tmp_path):
    settings = SmallShop(tmp_path).settings()
    assert night(settings).publishes
    assert not night(settings, to_micros(AS_OF) - DAY, publishes=False).publishes


def test_drivers_on_several_machines_publish_and_keep_in_the_object_store(tmp_path, object_store):
    shop = SmallShop(tmp_path).settings(folder=str(object_store(tmp_path.name)))
    drivers = [shop.model_copy(update={"disk": str(tmp_path / name)}) for name in ("first", "second")]

    def run_night(driver: int, days: int, publishes: bool = True) -> str:
        as_of, settings = AS_OF + timedelta(days=days), drivers[driver]
        name = write(settings.snapshots_folder, as_of=as_of, horizon_end=as_of + timedelta(hours=36)).name
        publish_if_latest(night(settings, to_micros(as_of), publishes=publishes), name)
        return name

    later = run_night(0, 1)
    earlier, tried = run_night(1, 0), run_night(1, 2, publishes=False)
    reader = shop.model_copy(update={"disk": str(tmp_path / "reader")}).publisher
    reader.pull()
    assert snapshot_store.current(reader.root) == later
    assert [(each.name, each.is_current) for each in reader.listing()] == [
        (tried, False),
        (later, True),
        (earlier, False),
    ]
    assert drivers[0].publisher.has(tried)
    last = run_night(1, 3)
    reader.pull()
    assert snapshot_store.current(reader.root) == last
    assert reader.shared.names() == [later, tried, last]  # snapshots.keep is 3
