from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from demo_shop.shop import build_shop
from recsys.config.demo_shop import DemoShopSettings

SMALL = DemoShopSettings(users=200, days=14, photos=60)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_settings_build_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        build_shop(SMALL, tmp_path / name)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_another_seed_builds_another_shop_in_every_table(tmp_path):
    build_shop(SMALL, tmp_path / "one")
    build_shop(SMALL.model_copy(update={"seed": 8}), tmp_path / "two")
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] == two[name]] == []


def test_another_taste_for_pictures_leaves_the_catalogue_as_it_is(tmp_path):
    build_shop(SMALL, tmp_path / "one")
    build_shop(SMALL.model_copy(update={"picture_taste_share": 0.0}), tmp_path / "two")
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert one["raw/sales.parquet"] == two["raw/sales.parquet"]
    assert one["truth/sale_pictures.parquet"] == two["truth/sale_pictures.parquet"]
    assert one["raw/sale_images.parquet"] == two["raw/sale_images.parquet"]
    assert one["photos/photo-00001.jpg"] == two["photos/photo-00001.jpg"]
    assert one["raw/events.parquet"] != two["raw/events.parquet"]


def test_a_second_build_replaces_the_first_and_leaves_no_trace_beside_it(tmp_path):
    folder = tmp_path / "shop"
    build_shop(SMALL.model_copy(update={"seed": 8}), folder)
    (folder / "tables").mkdir()
    (folder / "tables" / "kept.txt").write_text("not ours")
    build_shop(SMALL, folder)
    build_shop(SMALL, tmp_path / "fresh")
    assert files(folder) == files(tmp_path / "fresh") | {"tables/kept.txt": b"not ours"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "shop"]
    assert sorted(path.name for path in folder.iterdir()) == ["photos", "raw", "tables", "truth"]


def test_progress_is_told_after_every_photo(tmp_path):
    told: list[tuple[int, int]] = []
    build_shop(SMALL, tmp_path / "shop", progress=lambda done, total: told.append((done, total)))
    assert told == [(number, 60) for number in range(1, 61)]


@pytest.mark.parametrize(
    ("table", "columns"), [("sales", ["starts", "ends"]), ("events", ["happened_at", "logged_at"])]
)
def test_instants_are_utc_microseconds(shop, table, columns):
    schema = pq.read_schema(shop.folder / f"raw/{table}.parquet")
    assert {str(schema.field(name).type) for name in columns} == {"timestamp[us, tz=UTC]"}


def test_the_summary_counts_what_was_written(shop):
    assert shop.summary.users == len(shop.users) == shop.settings.users
    assert shop.summary.sales == len(shop.sales)
    actions = shop.events["action"].value_counts()
    assert shop.summary.photos == len(list(shop.folder.glob("photos/*.jpg"))) == shop.settings.photos
    assert (shop.summary.visits, shop.summary.purchases) == (actions["view"], actions["booking"])
    noon = pd.date_range(end=shop.settings.ends_at, periods=shop.settings.days + 1)[:-1] + pd.Timedelta(hours=12)
    is_open = (shop.sales["starts"].to_numpy() <= noon.to_numpy()[:, None]) & (
        noon.to_numpy()[:, None] < shop.sales["ends"].to_numpy()
    )
    assert shop.summary.median_open_sales == int(pd.Series(is_open.sum(axis=1)).median())


def test_the_raw_tables_hold_nothing_of_the_truth(shop):
    columns = {*shop.sales, *shop.events, *shop.users, *shop.sale_images}
    assert not [name for name in columns if "=" in name or name in ("quality", "utility", "propensity", "one_time")]
