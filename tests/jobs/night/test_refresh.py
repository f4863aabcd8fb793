"""A refresh at noon: the sales and photos of the moment, the users of the night."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.engine.nights import night
from jobs.night.nightly import nightly
from jobs.night.refresh import Refreshed, refresh, stamp_of_awaited_photos
from recsys.errors import BusyError, EmptyInputError, RejectedRowsError, SnapshotError
from recsys.instants import to_micros
from recsys.pipeline.shop import read_gallery
from recsys.ranking.ranker_files import RANKER, read_ranker
from recsys.ranking.scorer import Scorer
from recsys.recommenders import recommenders
from recsys.shop.catalogue import Catalogue
from recsys.shop.histories import Block
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import Snapshot, SnapshotSale
from recsys.snapshot.refreshed import write_refreshed
from recsys.storage.journal import leased
from recsys.storage.outputs import Outputs
from recsys.tables.parts import read_arrow, write_table
from serving.answers.pages import Visit
from serving.answers.top_sales import TopSales
from tests.helpers.asking import answered, shown
from tests.helpers.counted_events import live_counts
from tests.helpers.photo_shop import Photo, PhotoShop, random_photos
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, Row, SmallShop, at, contents, random_rows, sale

pytestmark = [MLFLOW_WARNS, pytest.mark.usefixtures("spark")]

SALES, EVENTS = random_rows(1, sales=24)
PHOTOS, SHOWN = random_photos(SALES)
NOON = to_micros(at(12))
USERS = [f"u{number:02d}" for number in range(40)]
NEW: list[Row] = [
    sale("a-new", 11, 60, title="Beach villa", price=90.0, attributes={"country": "Italy", "category": "sea"}),
    sale("s05-new", 9, 30, title="Ski hut", attributes={"country": "Norway"}),
]
"""Sales that staff add: their ids are before and among those of the night."""
NEW_PHOTOS: list[Photo] = [("a-new", 0, "pool-0.jpg"), ("a-new", 1, "pool-new.jpg")]
REOPENED = "s08"
"""A sale that was closed when the night was run."""
POOL = {"pool": 0.3, "sun lounger": 0.2, "palm": 0.1}


@dataclass
class Noon:
    """A shop whose tables changed twice after its night, each time followed by a refresh."""

    shop: PhotoShop
    night: Snapshot
    added: Snapshot
    """After new sales with photos, and a changed title."""
    said: Refreshed
    tables: Path
    """A copy of the tables that this refresh read."""
    changed: Snapshot
    """After changed windows, a withdrawn sale and other photos of a known one."""
    said_then: Refreshed


def in_use(shop: SmallShop) -> Snapshot:
    root = shop.settings().snapshots_folder
    return Snapshot.open(root / snapshot_store.current(root))


def of(snapshot: Snapshot, sale_id: str) -> SnapshotSale:
    return next(each for each in snapshot.sales if each.sale_id == sale_id)


@pytest.fixture(scope="module")
def before_noon(tmp_path_factory) -> PhotoShop:
    """A shop after its night; tests must not change it."""
    shop = PhotoShop(tmp_path_factory.mktemp("noon") / "shop")
    shop.write(SALES, EVENTS)
    shop.write_photos(PHOTOS, SHOWN)
    nightly(night(shop.settings()))
    return shop


@pytest.fixture(scope="module")
def noon(before_noon, tmp_path_factory) -> Noon:
    folder = tmp_path_factory.mktemp("changed")
    shutil.copytree(before_noon.folder, folder / "shop", copy_function=shutil.copy2)
    shop = PhotoShop(folder / "shop")
    of_night = in_use(shop)
    titled = [{**row, "title": "Tropical palace"} if row["sale_id"] == "s01" else row for row in SALES]
    shop.write([*titled, *NEW], EVENTS)
    shop.write_photos([*PHOTOS, *NEW_PHOTOS], {**SHOWN, "pool-new.jpg": POOL})
    said, added = refresh(shop.settings()), in_use(shop)
    shutil.copytree(tables_of(shop), folder / "tables")
    windows = {"s10": (-8, 44), REOPENED: (11, 20), "s07": (-20, -5)}
    moved = [
        row | ({"opens_at": at(windows[name][0]), "closes_at": at(windows[name][1])} if name in windows else {})
        for row in titled
        if (name := row["sale_id"]) != "s20"
    ]
    shop.write([*moved, *NEW], EVENTS)
    others = [
        ("s00", place, name) for place, name in enumerate(("city-1.jpg", "pool-8.jpg", "food-1.jpg", "pool-2.jpg"))
    ]
    kept = [photo for photo in PHOTOS if photo[0] not in ("s00", "s20")]
    shop.write_photos([*kept, *NEW_PHOTOS, *others], {**SHOWN, "pool-new.jpg": POOL})
    said_then, changed = refresh(shop.settings()), in_use(shop)
    return Noon(shop, of_night, added, said, folder / "tables", changed, said_then)


@pytest.fixture
def shop(before_noon, tmp_path) -> PhotoShop:
    """A copy of the shop after its night."""
    shutil.copytree(before_noon.folder, tmp_path / "shop")
    return PhotoShop(tmp_path / "shop")


def tables_of(shop: SmallShop) -> Path:
    return Path(shop.settings().folder) / "refreshes" / night(shop.settings()).folder.name


def block_of(shop: SmallShop, catalogue: Catalogue) -> Block:
    """Return the histories that the night had read, with positions in another catalogue."""
    folder = night(shop.settings()).outputs
    (batch,) = pq.read_table(folder / "user_histories").combine_chunks().to_batches()
    of_night = Catalogue.from_table(pq.read_table(folder / "sales"))
    moved = np.array([catalogue.position[sale_id] for sale_id in of_night.sale_ids], np.int32)
    block = Block.from_batch(batch, len(catalogue))
    return replace(block, sales=moved[block.sales])


# What is on pages.


def test_refresh_says_what_it_brought(noon):
    assert noon.said == Refreshed(f"{noon.night.name}.r0001", "2 new sales, 1 sale described anew, 2 new photos")
    new_photos = 1 + len([sale_id for sale_id, *_ in PHOTOS if sale_id == REOPENED])
    found = f"1 new sale, 1 changed window, 2 sales withdrawn, 1 sale described anew, {new_photos} new photos"
    assert noon.said_then == Refreshed(f"{noon.night.name}.r0002", found)


@pytest.mark.parametrize("policy", ["meta", "popularity"])
@pytest.mark.parametrize("user", ["u00", "nobody"])
def test_new_sale_is_on_pages_from_its_opening_on(noon, user, policy):
    top_sales = TopSales.of(noon.added)
    before, after = (shown(answered(top_sales, to_micros(at(hour)), user, policy=policy, n=20)) for hour in (10, 12))
    assert "s05-new" in before
    assert "a-new" not in before
    assert {"a-new", "s05-new"} <= set(after)


def test_new_sale_is_ranked_for_a_running_session_that_begins_with_it(noon):
    asked = {"session": (Visit("a-new"),), "explain": True, "n": 20}
    page = answered(TopSales.of(noon.added), NOON, "u00", **asked)
    assert page.uses_session
    assert {each.sale_id: each.HasField("probability") for each in page.sales}["a-new"]


def test_new_sale_has_the_theme_of_its_photos(noon):
    (new, other) = (of(noon.added, name) for name in ("a-new", "s05-new"))
    assert new.images == ("pool-0.jpg", "pool-new.jpg")
    assert new.theme == "pool · palm · sun lounger"
    assert (other.images, other.theme) == ((), None)


def test_refreshed_features_are_those_of_a_night_with_the_same_tables(noon):
    """The oracle counts all events anew and fits every recommender to the tables that the refresh read."""
    catalogue = Catalogue.from_table(pq.read_table(Outputs.of(noon.tables) / "sales"))
    catalogue = replace(catalogue, gallery=read_gallery(Outputs.of(noon.tables), catalogue.position))
    settings = noon.shop.settings()
    horizon = catalogue.horizon(to_micros(AS_OF), settings.horizon_hours)
    known = block_of(noon.shop, catalogue).as_of(horizon.as_of, settings.history)
    everything = recommenders(settings.recommenders, catalogue)
    oracle = Scorer(horizon, everything, [each.fit(each.count(known, horizon), horizon) for each in everything])
    ranker, refreshed = read_ranker(noon.added.file(RANKER))
    histories = block_of(noon.shop, refreshed).as_of(horizon.as_of, settings.history)
    assert oracle.names == ranker.scorer.names
    assert {"content_metadata", "content_text", "content_images", "taste_images"} <= set(oracle.names)
    columns = [[catalogue.sale_ids[each] for each in horizon.sales].index(each.sale_id) for each in noon.added.sales]
    pairs = zip(oracle.names, oracle.features(known), ranker.scorer.features(histories), strict=True)
    for name, expected, found in pairs:
        expected = expected[:, columns] if expected.shape[1] > 1 else expected
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=name)


# What the night wrote of users.


@pytest.mark.parametrize("after", ["added", "changed"])
def test_records_of_all_users_mean_what_they_meant_in_the_nights_snapshot(noon, after):
    refreshed: Snapshot = getattr(noon, after)
    catalogues = [read_ranker(snapshot.file(RANKER))[1].sale_ids for snapshot in (noon.night, refreshed)]
    shown_photos = 0
    for user in USERS:
        found, expected = refreshed.ranking("meta", user), noon.night.ranking("meta", user)
        assert (found is None) == (expected is None)
        if expected is None:
            continue
        sales = [[each.sales[place].sale_id for place in expected.sales] for each in (noon.night, refreshed)]
        assert sales[0] == sales[1]
        np.testing.assert_array_equal(found.scores, expected.scores)
        np.testing.assert_array_equal(found.reasons, expected.reasons)
        for place, cover in zip(expected.sales, expected.covers, strict=True):
            was, now = noon.night.sales[place].images, refreshed.sales[place].images
            if cover and now[cover] != now[0]:
                assert now[cover] == was[cover]
                shown_photos += 1
        histories = [each.users.find(user).history() for each in (noon.night, refreshed)]
        named = [[ids[place] for place in each.sales] for ids, each in zip(catalogues, histories, strict=True)]
        assert named[0] == named[1] != []
        assert list(refreshed.users.find(user).places("meta"))  # the service checks each record that it reads
    assert noon.night.reasons == refreshed.reasons
    assert shown_photos > 20


def test_users_files_are_the_nights_own(noon):
    names = [name for name in noon.night.manifest.files if name.startswith(("user_", "ranking_", "history_"))]
    assert len(names) == 7
    for snapshot in (noon.added, noon.changed):
        assert snapshot.manifest.users_of == noon.night.name
        for name in names:
            assert (snapshot.path / name).samefile(noon.night.path / name)


def test_scores_of_all_users_and_sales_are_numbers(noon):
    ranker, catalogue = read_ranker(noon.changed.file(RANKER))
    histories = block_of(noon.shop, catalogue).as_of(to_micros(AS_OF), noon.shop.settings().history)
    scores = ranker.scored(histories).best("meta")[1]
    assert scores.shape == (len(histories), len(noon.changed.sales))
    assert np.isfinite(scores).all()


def test_visits_of_the_morning_raise_a_sale_that_was_added(noon):
    visits = [("a-new", False, to_micros(at(hours))) for hours in (11.2, 11.3, 11.4)] * 40
    counts = live_counts([*visits, ("s01", False, to_micros(at(11.5)))])
    night, live = TopSales.of(noon.added), TopSales.of(noon.added, counts=lambda: counts)
    before, page = (shown(answered(top_sales, NOON, "nobody", n=20)) for top_sales in (night, live))
    assert set(page) == set(before)
    assert page[0] == "a-new" != before[0]
    pages = [answered(top_sales, NOON, "u00", n=20).sales for top_sales in (night, live)]
    scores = [{each.sale_id: each.score for each in sales} for sales in pages]
    assert scores[0].keys() == scores[1].keys()
    assert scores[0]["a-new"] != scores[1]["a-new"]


# What changed on known sales.


def test_changed_window_holds_and_known_sales_keep_their_places(noon):
    known = [each.sale_id for each in noon.night.sales]
    assert [each.sale_id for each in noon.changed.sales] == [*known, REOPENED, "a-new", "s05-new"]
    assert of(noon.changed, "s10").closes_at == at(44)
    pages = [shown(answered(TopSales.of(each), to_micros(at(40)), n=20)) for each in (noon.added, noon.changed)]
    assert ["s10" in page for page in pages] == [False, True]


def test_sale_that_opens_again_is_ranked_by_the_visits_before_the_night(noon):
    ranker, catalogue = read_ranker(noon.changed.file(RANKER))
    block = block_of(noon.shop, catalogue)
    histories = block.as_of(to_micros(AS_OF), noon.shop.settings().history)
    visits = ranker.scorer.score("own_visits", histories)[:, len(noon.night.sales)]
    visitors = {
        int(user)
        for user, place, bought in zip(histories.user_of_event(), histories.sales, histories.purchases, strict=True)
        if catalogue.sale_ids[place] == REOPENED and not bought
    }
    assert set(np.flatnonzero(visits).tolist()) == visitors
    assert len(visitors) > 3
    assert REOPENED in shown(answered(TopSales.of(noon.changed), NOON, n=20))


@pytest.mark.parametrize("sale_id", ["s20", "s07"])
def test_sale_that_was_withdrawn_or_that_ended_before_the_night_is_on_no_page(noon, sale_id):
    for user in ("u00", "nobody"):
        pages = [shown(answered(TopSales.of(each), NOON, user, n=20)) for each in (noon.added, noon.changed)]
        assert [sale_id in page for page in pages] == [True, False]


def test_photo_that_was_at_a_position_is_still_there_and_the_cover_is_the_present_one(noon):
    assert of(noon.night, "s00").images == ("pool-8.jpg", "food-1.jpg", "ski-7.jpg", "pool-2.jpg")
    images = ("city-1.jpg", "food-1.jpg", "city-1.jpg", "pool-2.jpg", "pool-8.jpg")
    assert of(noon.changed, "s00").images == images


@pytest.mark.parametrize(
    ("uri", "reason", "is_looked_for"),
    [("https://cdn/a.jpg", "missing", True), ("https://cdn/a.jpg", "too_small", False), ("a.jpg", "missing", False)],
)
def test_photo_whose_url_did_not_answer_is_looked_for_again(tmp_path, uri, reason, is_looked_for):
    assert stamp_of_awaited_photos(tmp_path) == 0
    (tmp_path / "rejected_images").mkdir()
    pq.write_table(pa.table({"image_uri": [uri], "reason": [reason]}), tmp_path / "rejected_images/part.parquet")
    stamps = [stamp_of_awaited_photos(tmp_path) for _ in range(2)]
    assert (0 < stamps[0] < stamps[1]) if is_looked_for else stamps == [0, 0]


# When it is run again, and when it stops.


def test_unchanged_sales_publish_nothing(noon, shop):
    snapshots = contents(shop.settings().snapshots_folder)
    assert refresh(shop.settings()) == Refreshed(noon.night.name, "")
    assert contents(shop.settings().snapshots_folder) == snapshots
    assert refresh(noon.shop.settings()) == Refreshed(noon.changed.name, "")
    assert in_use(noon.shop).name == noon.changed.name


def test_rollback_lasts_until_sales_change(noon, tmp_path):
    shutil.copytree(noon.shop.folder, tmp_path / "shop")
    shop = PhotoShop(tmp_path / "shop")
    root = shop.settings().snapshots_folder
    assert snapshot_store.rollback(root, at(12)) == noon.added.name
    assert refresh(shop.settings()) == Refreshed(noon.changed.name, "")
    assert snapshot_store.current(root) == noon.added.name
    shop.write([*SALES, *NEW, sale("z-new", 12)], EVENTS)
    assert refresh(shop.settings()).name == f"{noon.night.name}.r0003"
    assert snapshot_store.current(root) == f"{noon.night.name}.r0003"


def lose_open_sales(shop: SmallShop) -> None:
    shop.write([row for row in SALES if row["closes_at"] <= AS_OF], EVENTS)


def break_rows(shop: SmallShop) -> None:
    shop.write([{**row, "price": -1.0} for row in SALES], EVENTS)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lose_open_sales, EmptyInputError, "but 13 sales of snapshot 20260301T000000Z-"),
        (break_rows, RejectedRowsError, "table sales: 24 of 24 rows break a rule, must be at most 50.00%"),
    ],
)
def test_refresh_of_a_broken_source_stops_and_pages_stay(shop, change, kind, said):
    snapshots = contents(shop.settings().snapshots_folder)
    change(shop)
    with pytest.raises(kind, match=said):
        refresh(shop.settings())
    assert contents(shop.settings().snapshots_folder) == snapshots


def test_one_broken_row_is_set_aside(noon, tmp_path):
    shutil.copytree(noon.shop.folder, tmp_path / "shop")
    shop = PhotoShop(tmp_path / "shop")
    shop.write([*SALES, *NEW, sale("broken", 12, 11), sale("whole", 11, 30)], EVENTS)
    refresh(shop.settings())
    rejected = pq.read_table(Outputs.of(tables_of(shop)) / "rejected_rows").to_pylist()
    assert [row["rule"] for row in rejected if "broken" in row["row"]] == ["sale_closes_after_it_opens"]
    assert {"whole", "broken"} & {each.sale_id for each in in_use(shop).sales} == {"whole"}


def test_refresh_beside_a_night_is_refused(before_noon):
    settings = before_noon.settings()
    nights = Path(settings.folder) / "nights"
    for folder, said in (
        (nights / "20260302T000000Z", "a night runs in"),
        (night(settings).folder, "a night runs in"),
    ):
        with leased(folder), pytest.raises(BusyError, match=said):
            refresh(settings)
    shutil.rmtree(nights / "20260302T000000Z")


def test_night_that_publishes_meanwhile_stays_in_use(noon, shop, monkeypatch):
    root = shop.settings().snapshots_folder

    def publish_and_write(*arguments: object) -> str:
        shutil.copytree(root / noon.night.name, root / "20260302T000000Z-11111111")
        snapshot_store.publish(root, "20260302T000000Z-11111111", at(24))
        return write_refreshed(*arguments)

    monkeypatch.setattr("jobs.night.refresh.write_refreshed", publish_and_write)
    shop.write([*SALES, *NEW], EVENTS)
    with pytest.raises(BusyError, match="20260302T000000Z-11111111 took the place of"):
        refresh(shop.settings())
    assert snapshot_store.current(root) == "20260302T000000Z-11111111"


def test_snapshot_of_other_tables_than_those_of_its_night_is_not_refreshed(shop):
    """As after a night that was begun again with other sales, and stopped by its checks."""
    table = night(shop.settings()).outputs / "sales"
    sales = read_arrow(table).sort_by("sale_id").slice(1)
    shutil.rmtree(table)
    write_table(sales, table)
    shop.write([*SALES, *NEW], EVENTS)
    with pytest.raises(SnapshotError, match="is of other sales than the tables of its night"):
        refresh(shop.settings())


def test_shop_without_a_snapshot_or_without_the_tables_of_its_night_is_told_to_run_one(tmp_path, before_noon):
    with pytest.raises(SnapshotError, match="has no snapshot in use"):
        refresh(SmallShop(tmp_path / "empty").settings())
    shutil.copytree(before_noon.settings().snapshots_folder, tmp_path / "var/snapshots")
    with pytest.raises(SnapshotError, match=r"cannot be refreshed, .* is missing: run .recsys nightly"):
        refresh(SmallShop(tmp_path).settings())


REFRESH_AND_DIE = """
import os, signal, sys
from pathlib import Path
import sklearn.feature_extraction.text
from jobs.engine.code_version import code_version, library_versions
from jobs.engine.run import Run
from jobs.night.refresh import PUBLISH_REFRESH
from recsys.config.settings import load_settings
from recsys.instants import to_micros
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import Snapshot

os.fsync = lambda _: None  # processes are killed, not the machine
settings, folder = load_settings(Path(sys.argv[1])), Path(sys.argv[2])
root = settings.snapshots_folder
as_of = to_micros(snapshot_store.in_use(root).as_of)
run = Run(settings, folder, as_of, training_days=[], days=[as_of], trains=False)
run.shop.catalogue, code_version(PUBLISH_REFRESH.run), library_versions()  # the children inherit them
events = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link"}
status, moment, step = None, int(sys.argv[3]), int(sys.argv[4])
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
        run.do((PUBLISH_REFRESH,))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    for name in [each.name for each in root.iterdir() if each.is_dir() and each.name[0] != "."]:
        Snapshot.open(root / name)
    assert snapshot_store.current(root) in os.listdir(root)
print("killed", moment // step, "times")
"""


def test_refresh_killed_at_any_change_of_the_file_system_publishes_once_when_it_is_run_again(noon, tmp_path):
    """At every 23rd change, KILL_SEED chooses which; what was published last is removed first."""
    shutil.copytree(noon.shop.folder, tmp_path / "shop")
    shop = PhotoShop(tmp_path / "shop")
    root, folder = shop.settings().snapshots_folder, tables_of(shop)
    snapshot_store.rollback(root, at(12))
    shutil.rmtree(root / noon.changed.name)
    with leased(folder) as lease:
        lease.add(lease.steps["publish_refresh"] | {"fingerprint": "of another time"})
    first = str(int(os.environ.get("KILL_SEED", "5")) % 23 - 22)
    command = [sys.executable, "-c", REFRESH_AND_DIE, str(shop.configuration()), str(folder), first, "23"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-2]) > 4
    assert snapshot_store.refreshes(root, noon.night.name) == [1, 2]
    assert in_use(shop).manifest == noon.changed.manifest
    assert not list(root.glob(".tmp-*"))
