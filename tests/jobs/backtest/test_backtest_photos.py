"""Backtests of a shop with photos."""

import json

import pyarrow.parquet as pq
import pytest

from jobs.backtest import measure_pages
from jobs.backtest.backtest import backtest, window
from jobs.registry.taggers import register_tagger
from recsys.errors import ConfigurationError
from recsys.images.tagging.taggers import tagger_files
from recsys.instants import DAY, to_micros
from recsys.metrics import bootstrap
from recsys.recommenders import OVER_PHOTOS
from recsys.storage.outputs import Outputs
from tests.helpers.photo_shop import PhotoShop, random_photos
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, random_rows
from tests.helpers.trained_taggers import taxonomy, trained

pytestmark = MLFLOW_WARNS

LAST = to_micros(AS_OF) - DAY
FIRST = LAST - DAY


@pytest.fixture(scope="module")
def shop_with_photos(spark, tmp_path_factory) -> PhotoShop:
    sales, events = random_rows(1)
    shop = PhotoShop(tmp_path_factory.mktemp("backtest of photos"))
    shop.write(sales, events)
    shop.write_photos(*random_photos(sales))
    settings = shop.settings()
    (named,) = settings.images.taggers
    rooms = trained(taxonomy(), [[0, 3, 0], [0, 0, 0]], named, tagger_files(named).network_version)
    rooms.save(shop.folder / "rooms")
    register_tagger(settings, rooms, shop.folder / "rooms")
    shop.settings_changes["images"] = shop.raw_settings()["images"] | {
        "taggers": [named.model_dump(exclude_none=True), {"taxonomy": "rooms"}]
    }
    return shop


@pytest.fixture(scope="module")
def result_with_photos(shop_with_photos) -> dict:
    return backtest(window(shop_with_photos.settings(), FIRST, LAST), without_taggers=["rooms"])


def test_pages_without_a_tagger_are_those_of_a_run_of_its_own(result_with_photos, shop_with_photos):
    run = window(shop_with_photos.settings(), FIRST, LAST)
    folder, other = run.outputs, Outputs.of(run.folder / "without_rooms")
    theme_tags = [set(json.loads((each / "theme_model.json").read_text())["tags"]) for each in (folder, other)]
    assert theme_tags[0] - theme_tags[1] == {"pool", "suite"} - theme_tags[1]
    pages = pq.read_table(other / "page_metrics").to_pandas()
    expected = pages[pages["policy"] == "meta"]["ndcg@10"].mean()
    found = result_with_photos["policies"]["meta_without_tagger_rooms"]["ndcg@10"]["value"]
    assert found == pytest.approx(expected)
    assert "meta - meta_without_tagger_rooms" in result_with_photos["differences"]


@pytest.mark.parametrize(
    ("name", "rule"), [("room", "must be one of efficientnet_lite0, rooms"), ("rooms", "no other")]
)
def test_tagger_that_cannot_be_left_out_is_refused(shop_with_photos, name, rule):
    settings = shop_with_photos.settings()
    if name == "rooms":
        images = settings.images.model_copy(update={"taggers": settings.images.taggers[1:]})
        settings = settings.model_copy(update={"images": images})
    with pytest.raises(ConfigurationError, match=f"--without-tagger == '{name}', .*{rule}"):
        backtest(window(settings, FIRST, LAST), without_taggers=[name])


def test_shop_with_photos_has_a_policy_without_them_too(result_with_photos):
    policies = result_with_photos["policies"]
    assert list(policies)[:2] == ["meta", "meta_without_images"]
    assert "content_images" in policies
    assert policies["meta_without_images"]["users"] == policies["meta"]["users"]
    assert set(policies["meta_without_images"]) == set(policies["popularity"])
    assert policies["meta_without_images"]["mrr"] != policies["meta"]["mrr"]


def test_difference_is_that_of_the_same_pages_with_an_interval_over_users(result_with_photos, shop_with_photos):
    pairs = ["meta - meta_without_images", "meta - meta_without_tagger_rooms", "meta - meta_boosted"]
    assert list(result_with_photos["differences"]) == pairs
    folder = window(shop_with_photos.settings(), FIRST, LAST).outputs
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
    model = json.loads((run.outputs / "theme_model.json").read_text())
    first = min(day for day in run.training_days if day in run.open_training_days)
    assert model["as_of"] == first < FIRST
