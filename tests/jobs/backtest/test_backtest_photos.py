"""Backtests of a shop with photos."""

import json

import pyarrow.parquet as pq
import pytest

from jobs.backtest import measure_pages
from jobs.backtest.backtest import backtest, window
from recsys.instants import DAY, to_micros
from recsys.metrics import bootstrap
from recsys.recommenders import OVER_PHOTOS
from tests.helpers.photo_shop import PhotoShop, random_photos
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, random_rows

pytestmark = MLFLOW_WARNS

LAST = to_micros(AS_OF) - DAY
FIRST = LAST - DAY


@pytest.fixture(scope="module")
def shop_with_photos(spark, tmp_path_factory) -> PhotoShop:
    sales, events = random_rows(1)
    shop = PhotoShop(tmp_path_factory.mktemp("backtest of photos"))
    shop.write(sales, events)
    return shop.write_photos(*random_photos(sales))


@pytest.fixture(scope="module")
def result_with_photos(shop_with_photos) -> dict:
    return backtest(window(shop_with_photos.settings(), FIRST, LAST))


def test_shop_with_photos_has_a_policy_without_them_too(result_with_photos):
    policies = result_with_photos["policies"]
    assert list(policies)[:2] == ["meta", "meta_without_images"]
    assert "content_images" in policies
    assert policies["meta_without_images"]["users"] == policies["meta"]["users"]
    assert set(policies["meta_without_images"]) == set(policies["popularity"])
    assert policies["meta_without_images"]["mrr"] != policies["meta"]["mrr"]


def test_difference_is_that_of_the_same_pages_with_an_interval_over_users(result_with_photos, shop_with_photos):
    assert list(result_with_photos["differences"]) == ["meta - meta_without_images", "meta - meta_boosted"]
    folder = window(shop_with_photos.settings(), FIRST, LAST).folder
    pages = pq.read_table(folder / "page_metrics").to_pandas().set_index(["as_of", "user_id", "policy"])
    for name, found in result_with_photos["differences"]["meta - meta_without_images"].items():
        by_policy = pages[name].unstack()
        difference = by_policy["meta"] - by_policy["meta_without_images"]
        users = difference.index.get_level_values("user_id").to_numpy()
        expected = bootstrap({name: difference.to_numpy()}, users, seed=0)[name]
        assert found == pytest.approx(expected._asdict())
        values = [result_with_photos["policies"][policy][name]["value"] for policy in ("meta", "meta_without_images")]
        assert found["value"] == pytest.approx(values[0] - values[1])


def test_model_without_images_is_trained_on_the_same_examples(result_with_photos, shop_with_photos):
    run = window(shop_with_photos.settings(), FIRST, LAST)
    models = measure_pages.meta_models(run, [])
    with_images, without = (models[name] for name in ("meta", "meta_without_images"))
    assert [name for name in with_images.features if name not in OVER_PHOTOS] == without.features
    kept = [with_images.features.index(name) for name in without.features]
    assert without.means == pytest.approx([with_images.means[number] for number in kept])
    assert without.coefficients != pytest.approx([with_images.coefficients[number] for number in kept])


def test_examples_of_a_shop_with_photos_show_covers_and_the_pages_by_photos(result_with_photos, shop_with_photos):
    assert list(result_with_photos["ablation"][-1]) == ["feature", "alone", "added", "removed"]
    assert all(
        list(each["pages"]) == ["collaborative", "content_images", "meta"] for each in result_with_photos["examples"]
    )
    photos = pq.read_table(shop_with_photos.folder / "raw/sale_images.parquet").to_pylist()
    covers = {row["sale_id"]: row["image_uri"] for row in photos if row["position"] == 0}
    sales = result_with_photos["sales"]
    assert {name: each["cover"] for name, each in sales.items() if "cover" in each} == {
        name: covers[name] for name in sales if name in covers
    }


def test_themes_of_a_backtest_are_those_known_on_its_first_training_day(result_with_photos, shop_with_photos):
    run = window(shop_with_photos.settings(), FIRST, LAST)
    model = json.loads((run.folder / "theme_model.json").read_text())
    first = min(day for day in run.training_days if day in run.open_training_days)
    assert model["as_of"] == first < FIRST
