import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.engine.nights import night
from jobs.engine.run import Run, with_inputs
from jobs.night.build_histories import BUILD_HISTORIES
from jobs.night.build_themes import BUILD_THEMES, build_themes
from jobs.night.nightly import nightly
from jobs.night.validate_tables import VALIDATE_TABLES
from recsys.errors import ModelError
from recsys.images.themes.themes import THEME_MODEL, ThemeModel, no_themes
from recsys.instants import DAY, to_micros
from recsys.recommenders import OVER_PHOTOS
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import OPEN, Snapshot
from recsys.tables.parts import read_arrow, write_table
from tests.helpers.photo_shop import PhotoShop, random_photos
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, SmallShop, at, contents, event, random_rows, sale

pytestmark = [MLFLOW_WARNS, pytest.mark.usefixtures("spark")]

SALES, EVENTS = random_rows(1, sales=24)
PHOTOS, SHOWN = random_photos(SALES)
KNOWN_UNTIL = at(-3 * 24 + 36)
"""End of the horizon of the first of the three training days, 36 hours after its midnight."""
EARLY = {row["sale_id"] for row in SALES if row["opens_at"] < KNOWN_UNTIL}


VISIT = event("u", "a", -1)


def build_themes_of(shop: SmallShop, as_of: int | None = None) -> Run:
    run = night(shop.settings(), as_of)
    run.do(with_inputs(BUILD_THEMES))
    return run


def model_of(run: Run) -> ThemeModel:
    return ThemeModel.from_json((run.outputs / THEME_MODEL).read_text())


def photo_weights(run: Run, sales: set[str] | None = None) -> dict[tuple[str, int], list[float] | None]:
    """Return the theme weights of each photo of some sales, by default of all."""
    rows = read_arrow(run.outputs / "image_themes").to_pylist()
    return {(row["sale_id"], row["position"]): row["weights"] for row in rows if not sales or row["sale_id"] in sales}


def sale_themes(run: Run, sales: set[str] | None = None) -> dict[tuple[str, str], float]:
    rows = read_arrow(run.outputs / "sale_themes").to_pylist()
    return {(row["sale_id"], row["theme"]): row["weight"] for row in rows if not sales or row["sale_id"] in sales}


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> PhotoShop:
    """A shop with photos whose themes are built; tests must not change it."""
    shop = PhotoShop(tmp_path_factory.mktemp("photos"))
    shop.write(SALES, EVENTS)
    shop.write_photos(PHOTOS, SHOWN)
    build_themes_of(shop)
    return shop


@pytest.fixture(scope="module")
def run(shop) -> Run:
    return night(shop.settings())


def copy_without_results(shop: PhotoShop, folder: Path) -> PhotoShop:
    """Copy a shop's raw tables and photos, without its nights and themes."""
    shutil.copytree(shop.folder, folder, ignore=shutil.ignore_patterns("nights", "themes"))
    return PhotoShop(folder)


# What a night knows.


def test_fixture_has_early_and_later_sales_with_photos_and_photos_that_occur_twice():
    with_photos = {photo[0] for photo in PHOTOS}
    assert len(EARLY & with_photos) > 5
    assert len(with_photos - EARLY) > 3
    assert {row["sale_id"] for row in SALES} - with_photos
    assert len({name for *_, name in PHOTOS}) < len(PHOTOS)


def test_photos_of_later_sales_change_neither_the_themes_nor_those_of_earlier_sales(shop, run, tmp_path):
    early = [photo for photo in PHOTOS if photo[0] in EARLY]
    changed = {f"new-{number}.jpg": {"pool": 0.2, f"strange {number}": 0.7} for number in range(30)}
    later = [
        (sale_id, position, f"new-{position}.jpg")
        for sale_id in {row["sale_id"] for row in SALES} - EARLY
        for position in range(20)
    ]
    other = copy_without_results(shop, tmp_path / "shop")
    other.write([sale("a first one", -30, 50), *SALES], EVENTS)  # which changes the positions of all sales
    other.write_photos([*later[::-1], ("a first one", 0, "new-29.jpg"), *early], changed)
    found = build_themes_of(other)
    assert (found.outputs / THEME_MODEL).read_bytes() == (run.outputs / THEME_MODEL).read_bytes()
    assert photo_weights(found, EARLY) == photo_weights(run, EARLY)
    assert sale_themes(found, EARLY) == sale_themes(run, EARLY)
    assert any(photo_weights(found)["a first one", 0])  # one of its tags is in the model
    assert len(photo_weights(found)) > len(photo_weights(run))


def test_photo_of_an_earlier_sale_changes_the_themes(shop, run, tmp_path):
    first = next(photo for photo in PHOTOS if photo[0] in EARLY)
    other = copy_without_results(shop, tmp_path / "shop")
    other.write_photos([*PHOTOS, (first[0], 200, "new.jpg")], {"new.jpg": {"pool": 0.2, "strange": 0.7}})
    found = model_of(build_themes_of(other))
    assert "strange" in found.tags
    assert found.version != model_of(run).version


def test_order_of_the_rows_changes_nothing(shop, run, tmp_path):
    other = night(copy_without_results(shop, tmp_path / "shop").settings())
    shutil.copytree(run.folder, other.folder)
    table = other.outputs / "image_tags"
    rows = read_arrow(table)
    shutil.rmtree(table)
    shuffled = rows.take(np.random.default_rng(0).permutation(rows.num_rows))
    write_table(shuffled, table)
    found = replace(other, folder=tmp_path / "found")
    found.folder.mkdir()
    build_themes(other, found.folder)
    assert (found.folder / THEME_MODEL).read_bytes() == (run.outputs / THEME_MODEL).read_bytes()
    assert photo_weights(found) == photo_weights(run)
    assert sale_themes(found) == sale_themes(run)


def test_themes_are_those_of_the_first_training_day_on_which_a_sale_was_open(run):
    model = model_of(run)
    assert model.as_of == run.training_days[0]
    assert len(set(model.names)) == 4
    assert model.ids == [1, 2, 3, 4]


# Photos and sales.


def test_every_theme_has_mean_square_1_over_the_fitted_photos(run):
    weights = photo_weights(run, EARLY)
    weights_by_name = {name: weights[sale_id, position] for sale_id, position, name in PHOTOS if sale_id in EARLY}
    np.testing.assert_allclose(np.mean(np.array(list(weights_by_name.values())) ** 2, axis=0), 1, rtol=1e-4)


def test_photo_of_several_sales_has_the_same_themes_in_each(run):
    weights = photo_weights(run)
    found = {
        name: {tuple(weights[sale_id, position]) for sale_id, position, other in PHOTOS if other == name}
        for *_, name in PHOTOS
    }
    assert {len(each) for each in found.values()} == {1}


def test_themes_of_every_sale_are_the_weighted_means_of_its_photos(run):
    names = model_of(run).names
    frame = pd.DataFrame([(sale_id, position, weights) for (sale_id, position), weights in photo_weights(run).items()])
    expected = {}
    for sale_id, rows in frame.groupby(0):
        rows = rows.sort_values(1)
        counts = [2.0] + [1.0] * (len(rows) - 1)
        means = np.average(np.array(rows[2].tolist()), axis=0, weights=counts)
        expected |= {(sale_id, names[theme]): mean for theme, mean in enumerate(means) if mean > 0}
    assert sale_themes(run) == pytest.approx(expected, rel=1e-5)


def test_sale_themes_are_the_mean_of_photos_with_the_cover_weighted_as_configured(tmp_path):
    pool, ski = {"pool": 0.9}, {"snow": 0.4}
    shop = PhotoShop(tmp_path / "shop")
    shop.write([sale("a", -200), sale("b", -200), sale("c", -200), sale("d", -200), sale("e", -200)], [VISIT])
    shop.write_photos(
        [
            ("a", 3, "ski.jpg"),
            ("a", 1, "damaged.jpg"),  # rejected, so the next photo is the cover
            ("a", 2, "pool.jpg"),
            ("a", 9, "also pool.jpg"),
            ("b", 0, "ski.jpg"),
            ("c", 0, "missing.jpg"),
            ("e", 4, "strange.jpg"),  # has no tag
        ],
        {"pool.jpg": pool, "also pool.jpg": pool, "ski.jpg": ski, "damaged.jpg": "damaged", "missing.jpg": None}
        | {"strange.jpg": {}},
    )
    shop.settings_changes = {"images": {**shop.raw_settings()["images"], "themes": {"themes": 2, "cover_weight": 3.0}}}
    run = build_themes_of(shop)
    # Of 3 distinct photos with tags, 2 show only the pool and 1 only snow: root mean squares √(2/3) and √(1/3).
    pool_weight, snow_weight = (3 / 2) ** 0.5, 3**0.5
    assert model_of(run).names == ["pool", "snow"]
    by_pool, by_ski = [pool_weight, 0], [0, snow_weight]
    weights = photo_weights(run)
    assert (weights.pop(("a", 1)), weights.pop(("c", 0))) == (None, None)
    expected = {("a", 2): by_pool, ("a", 3): by_ski, ("a", 9): by_pool, ("b", 0): by_ski, ("e", 4): [0, 0]}
    assert {photo: pytest.approx(each, rel=1e-4) for photo, each in expected.items()} == weights
    assert sale_themes(run) == pytest.approx(
        {
            ("a", "pool"): (3 * pool_weight + 0 + pool_weight) / (3 + 1 + 1),
            ("a", "snow"): (0 + snow_weight + 0) / (3 + 1 + 1),
            ("b", "snow"): snow_weight,
        },
        rel=1e-4,
    )


# Shops without photos.


def test_shop_without_photos_has_an_empty_model_and_no_recommender_of_photos(published_shop):
    run = night(published_shop.settings())
    assert model_of(run) == no_themes()
    assert (photo_weights(run), sale_themes(run)) == ({}, {})
    assert run.shop.catalogue.gallery is None
    features = json.loads((run.outputs / "meta_model" / "model.json").read_text())["features"]
    assert "content_images" not in features
    assert "content_metadata" in features
    assert not (Path(run.settings.folder) / "themes").exists()


@pytest.mark.parametrize("why", ["none can be tagged", "none is known on the first day"])
def test_shop_without_photos_to_fit_has_no_themes(shop, tmp_path, why):
    other = copy_without_results(shop, tmp_path / "shop")
    if why == "none can be tagged":
        other.write_photos(
            [(sale_id, position, "damaged.jpg") for sale_id, position, _ in PHOTOS], {"damaged.jpg": "damaged"}
        )
    else:
        other.write_photos([photo for photo in PHOTOS if photo[0] not in EARLY], {})
    run = build_themes_of(other)
    assert model_of(run) == no_themes()
    assert sale_themes(run) == {}
    weights = photo_weights(run)
    assert weights
    assert not any(weights.values())
    gallery = run.shop.catalogue.gallery
    assert gallery is not None
    assert len(gallery.uris) == len(weights)  # photos are shown nevertheless
    assert "content_images" not in [recommender.name for recommender in run.shop.recommenders]


# Successive nights.


def test_themes_are_used_for_a_week_and_then_refitted_under_the_same_names(shop, run, tmp_path):
    other = PhotoShop(tmp_path / "shop")
    shutil.copytree(shop.folder, other.folder)
    other.write([row if row["opens_at"] > at(-199) else {**row, "closes_at": at(300)} for row in SALES], EVENTS)
    first = model_of(run)
    for later, is_fitted in ((6, False), (7, True)):
        found = model_of(build_themes_of(other, to_micros(AS_OF) + later * DAY))
        assert (found.version != first.version) == is_fitted
        assert set(found.ids) & set(first.ids)
        preserved = {theme: name for theme, name in zip(found.ids, found.names, strict=True) if theme in first.ids}
        assert preserved.items() <= dict(zip(first.ids, first.names, strict=True)).items()


def test_repeated_night_redoes_nothing(shop, run, caplog):
    before = contents(run.folder / "data"), contents(shop.folder / "var/themes")
    with caplog.at_level(logging.INFO):
        night(shop.settings()).do(with_inputs(BUILD_THEMES))
    assert (contents(run.folder / "data"), contents(shop.folder / "var/themes")) == before
    assert caplog.text.count("unchanged") == 3


def test_longer_horizon_has_themes_of_its_own(shop, run):
    longer = night(shop.settings(horizon_hours=60.0))
    longer = replace(longer, folder=longer.folder.with_name("longer"))
    longer.do(with_inputs(BUILD_THEMES))
    assert model_of(longer).as_of == model_of(run).as_of
    assert model_of(longer).fingerprint != model_of(run).fingerprint


def test_damaged_file_of_the_store_is_an_error_that_names_it(shop, tmp_path):
    other = copy_without_results(shop, tmp_path / "shop")
    path = Path(other.settings().folder) / "themes/old.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(ModelError, match=rf"{path}: the theme model cannot be read \(.*\): remove its file"):
        build_themes_of(other)


# The whole night.


@pytest.fixture(scope="module")
def whole(shop, tmp_path_factory) -> PhotoShop:
    """The shop after a whole night."""
    folder = tmp_path_factory.mktemp("whole") / "shop"
    shutil.copytree(shop.folder, folder)
    whole = PhotoShop(folder)
    nightly(night(whole.settings()))
    return whole


def served(shop: PhotoShop) -> Snapshot:
    root = shop.settings().snapshots_folder
    return Snapshot.open(root / snapshot_store.current(root))


def test_snapshot_of_a_shop_with_photos_has_them_and_names_its_themes(whole):
    snapshot, names = served(whole), model_of(night(whole.settings())).names
    details = [f"{recommender}/{name}" for recommender in OVER_PHOTOS for name in names]
    assert [*details, OPEN] == list(snapshot.reasons)[-len(details) - 1 :]
    for each in snapshot.sales:
        expected = [name for sale_id, _, name in PHOTOS if sale_id == each.sale_id]
        assert list(each.images) == expected
    for user in ("u00", "u01", "u02"):
        ranking = snapshot.ranking("meta", user)
        counts = [max(1, len(snapshot.sales[number].images)) for number in ranking.sales]
        assert (ranking.covers < counts).all()


def test_run_with_changed_sales_reads_no_photos_of_removed_sales(whole, tmp_path):
    changed = PhotoShop(tmp_path / "shop")
    shutil.copytree(whole.folder, changed.folder)
    gone = {photo[0] for photo in PHOTOS if photo[0] in EARLY}.pop()
    sales = [row for row in SALES if row["sale_id"] != gone]
    changed.write(sales, EVENTS)
    changed.write_photos([photo for photo in PHOTOS if photo[0] != gone], {})
    changed_run = night(changed.settings(source=_lenient_source(changed)))
    changed_run.do((VALIDATE_TABLES,))
    assert (gone, 0) in photo_weights(changed_run)  # from the previous night
    assert changed_run.shop.catalogue.gallery is None
    changed_run.do(with_inputs(BUILD_HISTORIES))
    assert changed_run.open_training_days == changed_run.training_days
    nightly(changed_run)
    assert gone not in {sale_id for sale_id, _ in photo_weights(changed_run)}
    assert served(changed).name != served(whole).name
    assert any(each.images for each in served(changed).sales)


def _lenient_source(shop: PhotoShop) -> dict:
    return {**shop.raw_settings()["source"], "max_rejected_share": 0.5}


def test_shop_that_lost_its_photos_has_a_night_without_them(whole, tmp_path):
    bare = PhotoShop(tmp_path / "shop")
    shutil.copytree(whole.folder, bare.folder)
    (bare.folder / "sql/sale_images.sql").unlink()
    nightly(night(bare.settings()))
    assert not any(each.images for each in served(bare).sales)
    assert not any("content_images" in reason for reason in served(bare).reasons)


def test_ignored_tags_make_no_theme_and_names_of_the_configuration_are_used(shop):
    tags = set(model_of(build_themes_of(shop)).tags)
    ignored = min(tags)
    changed = {**shop.raw_settings().get("images", {}), "themes": {"ignored_tags": [ignored], "names": {1: "pools"}}}
    run = night(shop.settings(images=changed))
    run.do(with_inputs(BUILD_THEMES))
    assert set(model_of(run).tags) == tags - {ignored}
    assert model_of(run).names[0] == "pools"
    assert "pools" in {theme for _, theme in sale_themes(run)}
