import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from recsys.config.pipeline import RankingSettings
from recsys.errors import SnapshotError
from recsys.instants import SECOND, from_micros
from recsys.pipeline.rankings import history_lists, ranked_lists
from recsys.ranking.covers import Covers
from recsys.ranking.ranker import Ranker, top
from recsys.ranking.ranker_files import RANKER, read_ranker, write_ranker
from recsys.recommenders import RecommenderSettings
from recsys.recommenders.collaborative import CollaborativeSettings
from recsys.shop.catalogue import Catalogue
from recsys.shop.gallery import Gallery
from recsys.shop.histories import Histories
from recsys.snapshot.format import Snapshot, SnapshotContents, SnapshotSale
from recsys.snapshot.users import History
from recsys.snapshot.writer import write_snapshot
from recsys.testing.closeness import assert_same_order
from recsys.testing.shops import AS_OF, ShopData, make_shop, purchase, random_shop, sale, visit
from tests.helpers.shops import fitted_ranker, with_photos
from tests.helpers.towers import random_towers

SETTINGS = RecommenderSettings(collaborative=CollaborativeSettings(neighbours=5), without=("content_text",))
SINGLE = ("collaborative", "content_metadata", "content_images", "towers", "own_visits")
KEPT = 10
AGED = 3e-5
"""Tolerance of scores: an age is stored in seconds, 2.7e-6 of a weight with a half-life of 3 days; rounding is less."""


def shop_with_photos(seed: int) -> ShopData:
    return with_photos(random_shop(seed, n_users=23, n_sales=40, n_events=900))


def written(folder: Path, shop: ShopData, settings: RecommenderSettings = SETTINGS) -> Ranker:
    """Write the ranker of a shop into a folder, and return it."""
    folder.mkdir()
    ranker = fitted_ranker(shop, settings, random_towers(shop.catalogue))
    write_ranker(folder, ranker, shop.catalogue, settings)
    return ranker


# One scoring path: the night scores a block of users, the service one user by the history in the snapshot.


def publish(folder: Path, shop: ShopData, ranker: Ranker, settings: RankingSettings) -> Snapshot:
    """Rank all users of a shop as one block, and write a snapshot of it with the ranker inside."""
    known, catalogue, horizon = shop.histories(), shop.catalogue, ranker.scorer.horizon
    lists = [*ranked_lists(ranker, known, settings), *history_lists(known, settings.history_events)]
    names = [f"{policy}_{name}" for policy in settings.policies for name in ("sales", "scores", "reasons", "covers")]
    names += [f"history_{name}" for name in ("sales", "ages", "purchases")]
    contents = SnapshotContents(
        as_of=from_micros(horizon.as_of),
        horizon_end=from_micros(horizon.until),
        sales=[_snapshot_sale(catalogue, position) for position in horizon.sales],
        policies=settings.policies,
        shared_rankings={"popularity": ranker.shared_ranking("popularity", len(catalogue))},
        reasons=ranker.scorer.reasons,
        versions={},
        fingerprint="00000000",
        files={RANKER: folder / "ranker"},
    )
    batch = pa.RecordBatch.from_arrays([shop.block.user_ids, *lists], ["user_id", *names])
    return Snapshot.open(folder / "snapshots" / write_snapshot(folder / "snapshots", contents, [batch]))


def _snapshot_sale(catalogue: Catalogue, position: int) -> SnapshotSale:
    window = (from_micros(int(instants[position])) for instants in (catalogue.opens_at, catalogue.closes_at))
    return SnapshotSale(catalogue.sale_ids[position], "", *window, images=catalogue.gallery.photos(position))


def histories_of(history: History, n_sales: int) -> Histories:
    """Return a user's history from a snapshot as histories that can be scored."""
    offsets, instants = np.array([0, len(history.sales)]), AS_OF - history.ages.astype(np.int64) * SECOND
    return Histories(AS_OF, n_sales, offsets, history.sales, history.purchases, instants)


@pytest.mark.parametrize("seed", range(8))
def test_service_ranks_a_user_by_the_snapshots_history_as_the_night_did_in_a_block(tmp_path, seed):
    shop = shop_with_photos(seed)
    nights_ranker = written(tmp_path / "ranker", shop)
    settings = RankingSettings(top_k=KEPT, policies=("meta", *SINGLE))
    snapshot = publish(tmp_path, shop, nights_ranker, settings)
    ranker, catalogue = read_ranker(snapshot.file(RANKER))
    night = nights_ranker.scored(shop.histories())
    for row, user_id in enumerate(shop.block.user_ids.to_pylist()):
        user = snapshot.users.find(user_id)
        scored = ranker.scored(histories_of(user.history(), len(catalogue)))
        for policy in settings.policies:
            scores, ranking = scored.scores(policy), user.ranking(policy)
            assert_allclose(scores[0], night.scores(policy)[row], rtol=1e-5, atol=AGED, err_msg=policy)
            a_step = np.ptp(ranking.scores) / 65_535
            said = scores if policy != "meta" else ranker.meta_model.calibrated(scores)
            assert_allclose(ranking.scores, said[0][ranking.sales], rtol=1e-5, atol=a_step + AGED, err_msg=policy)
            assert_same_order(scores[0], top(scores, KEPT)[0], ranking.sales, 2 * AGED)
            nights_best = ranking.sales[None].astype(np.int64)
            added = np.sort(scored.contributions(ranker.meta_model, nights_best)[:, 0], axis=0)
            clear = (policy != "meta") | (added[-1] - added[-2] > 2 * AGED)  # two may be nearly equal
            assert clear.mean() >= 0.5
            reasons = scored.reasons(policy, nights_best)[0]
            assert_array_equal(reasons[clear], ranking.reasons[clear], err_msg=policy)
            assert_array_equal(scored.covers(nights_best)[0], ranking.covers, err_msg=policy)


@pytest.mark.parametrize("seed", range(3))
def test_ranker_read_from_files_scores_exactly_as_the_one_written(tmp_path, seed):
    shop = shop_with_photos(seed)
    ranker = written(tmp_path / "ranker", shop)
    found, catalogue = read_ranker(tmp_path / "ranker")
    assert found.scorer.names == ranker.scorer.names
    assert found.scorer.reasons == ranker.scorer.reasons
    assert found.meta_model == ranker.meta_model
    assert (found.scorer.horizon.as_of, found.scorer.horizon.until) == (AS_OF, ranker.scorer.horizon.until)
    assert_array_equal(found.scorer.horizon.sales, ranker.scorer.horizon.sales)
    assert (catalogue.sale_ids, len(catalogue)) == (shop.catalogue.sale_ids, 40)
    session = (ranker.scorer.horizon.sales[:2], np.array([True, False]))
    for known in (shop.histories(), Histories.of_unknown_user(AS_OF, 40).with_session(*session)):
        now, then = found.scored(known), ranker.scored(known)
        for policy in ["meta", *ranker.scorer.names]:
            assert_array_equal(now.scores(policy), then.scores(policy), err_msg=policy)
            best = top(then.scores(policy), KEPT)
            assert_array_equal(now.reasons(policy, best), then.reasons(policy, best), err_msg=policy)
            assert_array_equal(now.covers(best), then.covers(best), err_msg=policy)


def test_shop_without_photos_has_a_ranker_too(tmp_path):
    shop = random_shop(1)
    ranker = written(tmp_path / "ranker", shop)
    found, catalogue = read_ranker(tmp_path / "ranker")
    assert found.covers is catalogue.gallery is None
    assert found.scorer.names == ranker.scorer.names
    assert_array_equal(found.scored(shop.histories()).scores("meta"), ranker.scored(shop.histories()).scores("meta"))


def test_ranker_without_a_model_over_photos_without_themes_is_read_as_it_was_written(tmp_path):
    shop = random_shop(3)
    n_sales = len(shop.catalogue)
    nothing = np.zeros((n_sales, 0), np.float32)
    gallery = Gallery(np.arange(n_sales + 1), ["x.jpg"] * n_sales, [], nothing, nothing)
    catalogue = replace(shop.catalogue, gallery=gallery)
    ranker = fitted_ranker(shop, SETTINGS)
    ranker = replace(ranker, meta_model=None, covers=Covers(gallery, ranker.scorer.horizon))
    write_ranker(tmp_path, ranker, catalogue, SETTINGS)
    read, _ = read_ranker(tmp_path)
    assert read.meta_model is None
    best = np.array([[2, 0]])
    for each in (read, ranker):
        scored = each.scored(Histories.of_unknown_user(AS_OF, n_sales))
        assert scored.covers(best).tolist() == [[0, 0]]
        assert_array_equal(scored.best("popularity")[0], ranker.scored(shop.histories()).best("popularity")[0][:1])


def test_shop_of_one_sale_without_events_has_a_ranker_too(tmp_path):
    shop = make_shop([sale("a")], [visit("u", "a", 1), purchase("u", "a", 1)])
    ranker = written(tmp_path / "ranker", shop)
    found, _ = read_ranker(tmp_path / "ranker")
    session = shop.histories().with_session(np.array([0], np.int32), np.array([False]))
    assert_array_equal(found.scored(session).scores("meta"), ranker.scored(session).scores("meta"))


def test_large_arrays_are_mapped_and_cannot_be_changed(tmp_path):
    shop = random_shop(1, n_sales=400, n_users=9, n_events=900)
    written(tmp_path / "ranker", shop)
    found, _ = read_ranker(tmp_path / "ranker")
    dense = found.scorer.models[found.scorer.names.index("content_metadata")].dense
    assert dense.nbytes > 1 << 16
    assert type(dense) is np.ndarray  # indexing a np.memmap is slow
    assert isinstance(dense.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        dense[0] = 1


def test_reading_a_ranker_imports_nothing_that_trains(tmp_path):
    written(tmp_path / "ranker", with_photos(random_shop(1)), RecommenderSettings())
    code = (
        "import sys; from pathlib import Path; from recsys.ranking.ranker_files import read_ranker; "
        "read_ranker(Path(sys.argv[1])); "
        "print({'sklearn', 'pandas', 'pyspark', 'torch', 'mlflow', 'recsys.tables.night'} & set(sys.modules))"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "ranker")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.check_output(command, env=environment, text=True) == "set()\n"


# Damaged rankers.


class Explodes:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return Path.touch, (self.trace,)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A ranker with photos; not to be changed."""
    folder = tmp_path_factory.mktemp("good") / "ranker"
    written(folder, shop_with_photos(4), RecommenderSettings())
    return folder


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    """A ranker of another shop, with larger arrays; not to be changed."""
    folder = tmp_path_factory.mktemp("foreign") / "ranker"
    shop = with_photos(random_shop(5, n_users=31, n_sales=70, n_events=1_500), n_themes=7)
    written(folder, shop, RecommenderSettings())
    return folder


@pytest.fixture
def folder(good, tmp_path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "ranker"))


CONTENT = [
    f"content_{family}/{name}"
    for family in ("images", "metadata", "text")
    for name in ("data", "dense", "features", "offsets", "shape")
]
COLLABORATIVE = [
    f"collaborative{measure}/{name}"
    for measure in ("", "_conditional", "_lift")
    for name in ("data", "offsets", "sources")
]
TASTE = [
    f"taste_{family}/{name}"
    for family in ("images", "metadata", "text")
    for name in ("data", "features", "offsets", "shape", "shares")
]
POPULARITY = [
    f"popularity{window}/{name}"
    for window in ("", "_day", "_month")
    for name in ("attribute_offsets", "attributes", "events")
]
TOWERS = [
    f"towers/{name}"
    for name in ("data", "features", "offsets", "shape", "shares", "user_bias", "user_weights", "vectors")
]
SALES = [f"sales/{name}" for name in ("closes_at", "horizon", "opens_at", "prices")]
ARRAYS = [*COLLABORATIVE, *CONTENT, "photos/first", "photos/themes", *POPULARITY, *SALES, *TASTE, *TOWERS]
FILES = sorted([*(f"{array}.npy" for array in ARRAYS), "meta_models.json", "ranker.json"])


def test_the_tests_below_damage_every_file(good):
    assert sorted(str(path.relative_to(good)) for path in good.rglob("*") if path.is_file()) == FILES


def damaged(file: Path, foreign_file: Path, trace: Path) -> Iterator[tuple[str, bytes | None]]:
    """Yield names and contents of damaged versions of a file; the content is None where the file is missing."""
    content = file.read_bytes()
    yield "missing", None
    yield "empty", b""
    yield "half", content[: len(content) // 2]
    yield "one byte short", content[:-1]
    yield "zeros", bytes(len(content))
    yield "a pickle", pickle.dumps(Explodes(trace))
    yield "an archive", b"PK\x03\x04" + content
    yield "JSON", b"[]"
    if file.name not in (
        "meta_models.json",
        "shape.npy",
        "shares.npy",
        "user_bias.npy",
        "user_weights.npy",
    ):  # these are of the right type and shape: only the manifest's checksum refuses them
        yield "foreign", foreign_file.read_bytes()


def refusal(folder: Path) -> str:
    """Return the message of the refusal of a folder; empty if it is read."""
    try:
        read_ranker(folder)
    except SnapshotError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", FILES)
def test_file_that_is_missing_truncated_or_foreign_is_refused_and_its_folder_named(folder, foreign, tmp_path, name):
    file, trace = folder / name, tmp_path / "trace"
    for what, content in damaged(file, foreign / name, trace):
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        assert refusal(folder).startswith(str(folder)), what
        assert refusal(folder).endswith("write the snapshot again with 'recsys nightly'"), what
    assert not trace.exists()


@pytest.mark.parametrize("name", [f"{array}.npy" for array in ARRAYS])
@pytest.mark.parametrize("n_objects", [1, 20_000])  # read, and mapped
def test_array_of_objects_is_refused_and_not_unpickled(folder, tmp_path, name, n_objects):
    trace = tmp_path / "trace"
    np.save(folder / name, np.array([Explodes(trace)] * n_objects, object), allow_pickle=True)
    with pytest.raises(SnapshotError, match="holds no ranker"):
        read_ranker(folder)
    assert not trace.exists()


@pytest.mark.parametrize("name", [f"{array}.npy" for array in ARRAYS])
def test_array_of_another_type_or_shape_is_refused_and_named(folder, name):
    values = np.load(folder / name)
    for other in (values[:-1], np.zeros(values.shape, np.int16), values.astype(values.dtype.newbyteorder())):
        np.save(folder / name, other)
        with pytest.raises(SnapshotError, match=f"{name.removesuffix('.npy')} is .*, must be"):
            read_ranker(folder)


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(SnapshotError, match=r"nowhere holds no ranker .*No such file"):
        read_ranker(tmp_path / "nowhere")


@pytest.mark.parametrize("file", ["ranker.json", "meta_models.json"])
def test_ranker_of_other_features_is_refused_by_their_names(folder, file):
    content = json.loads((folder / file).read_text())
    values = content["meta"] if file == "meta_models.json" else content
    values["features"][0] = "als"
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(SnapshotError, match=r"features are \[.*must be \['popularity', 'popularity_day'"):
        read_ranker(folder)


@pytest.mark.parametrize("changes", [{"recommenders": {"als": {}}}, {"as_of": None}, {"more": 1}, {"sale_ids": [1]}])
def test_description_that_breaks_its_format_is_refused(folder, changes):
    values = json.loads((folder / "ranker.json").read_text())
    (folder / "ranker.json").write_text(json.dumps({**values, **changes}))
    with pytest.raises(SnapshotError, match="holds no ranker"):
        read_ranker(folder)


def test_settings_are_stored_with_the_ranker(tmp_path):
    shop = shop_with_photos(2)
    settings = RecommenderSettings(collaborative=CollaborativeSettings(half_life_days=2.0, purchase_weight=9.0))
    ranker = written(tmp_path / "ranker", shop, settings)
    found, _ = read_ranker(tmp_path / "ranker")
    known = shop.histories()
    scores = found.scored(known).scores("collaborative")
    assert_array_equal(scores, ranker.scored(known).scores("collaborative"))
    assert (scores != fitted_ranker(shop).scored(known).scores("collaborative")).any()
