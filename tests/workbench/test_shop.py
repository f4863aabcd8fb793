import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import recsys
from jobs.engine.nights import night
from recsys.errors import ConfigurationError, InputError, SnapshotError
from recsys.instants import DAY, HOUR, to_micros
from recsys.tables.night import TRAINING_EXAMPLES
from serving.client import Client
from serving.process.server import start_server
from tests.helpers.asking import shown
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, SmallShop, contents
from tests.helpers.waiting import PATIENCE
from workbench import Shop

pytestmark = MLFLOW_WARNS

USERS = ("u00", "u03", "u17", "a stranger", "")
SERVING = {"clock": "replay", "workers": 1, "port": 0, "admin_port": None, "metrics_port": None}


@pytest.fixture(scope="module")
def copy(published_shop, tmp_path_factory) -> SmallShop:
    folder = tmp_path_factory.mktemp("workbench") / "shop"
    shutil.copytree(published_shop.folder / "var", folder / "var")
    return SmallShop(folder, {"serving": SERVING}, source=published_shop.folder)


@pytest.fixture(scope="module")
def shop(copy) -> Shop:
    return Shop(copy.configuration(), progress=False)


def test_users_import_the_shop_from_the_library():
    assert recsys.Shop is Shop
    with pytest.raises(AttributeError, match="'Ship'"):
        _ = recsys.Ship


def test_page_is_the_one_that_the_service_answers_and_nothing_is_written(shop, copy):
    before = contents(copy.folder / "var")
    at = AS_OF + pd.Timedelta(hours=12)
    asked = Timestamp()
    asked.FromDatetime(at)
    pages = {user: shop.top(user, 5, session=["s01"], at=at, explain=True).response for user in USERS}
    written = {
        path: digest for path, digest in contents(copy.folder / "var").items() if not path.startswith("serving/")
    }
    assert written == {path: digest for path, digest in before.items() if not path.startswith("serving/")}
    with (
        start_server(shop.settings.serving, Path(shop.settings.folder)) as server,
        Client(server.target, deadline=PATIENCE) as client,
    ):
        for user, page in pages.items():
            answer = client.top_sales(user, 5, session=["s01"], answer_time=at, explain=True)
            page.request_id = answer.request_id
            assert page == answer
            assert len(page.sales) == 5
        similar = shop.similar("s02", 4, user="u03").response
        answer = client.similar_sales("s02", 4, user_id="u03")
        assert [(sale.sale_id, sale.reason_text) for sale in similar.sales] == [
            (sale.sale_id, sale.reason_text) for sale in answer.sales
        ]
        assert "s02" not in shown(answer)
        assert len(answer.sales) == 4


def test_recommendations_of_many_users_are_their_pages(shop):
    found = shop.recommend(USERS[:3], 4)
    assert list(found.columns) == ["user_id", "item_id", "score", "rank"]
    for user, rows in found.groupby("user_id"):
        page = shop.top(user, 4).sales
        assert rows["item_id"].tolist() == page["sale_id"].tolist()
        assert rows["rank"].tolist() == [1, 2, 3, 4]
        assert rows["score"].tolist() == page["score"].tolist()


def test_tables_hold_ids_and_instants_in_utc(shop):
    sales, events = shop.sales(), shop.events()
    assert set(events["sale_id"]) <= set(sales["sale_id"])
    assert str(sales["opens_at"].dtype) == str(events["occurred_at"].dtype) == "datetime64[ns, UTC]"
    assert events["occurred_at"].max() < AS_OF
    assert shop.table("sales").count() == len(sales)
    with pytest.raises(InputError, match=r"table == 'salse', must be one of .*; did you mean 'sales'\?"):
        shop.table("salse")


def test_profile_says_what_the_tables_hold(shop, tmp_path):
    found, events = shop.profile(), shop.events()
    assert found.data.events == found.days[["visits", "purchases"]].sum().sum() == len(events)
    assert found.data.users == events["user_id"].nunique()
    assert found.hours["visits"].sum() == (events["kind"] == "visit").sum()
    assert found.proposals["key"].tolist()[-1:] != ["as_of"]
    shown = found._repr_html_()
    assert "events per user" in shown
    assert found.shortages["what"].isin(["themes of photos"]).any()
    assert all(what in shown for what in found.shortages["what"])
    found.write(tmp_path / "profile.html")
    assert "Data profile of var" in (tmp_path / "profile.html").read_text()


def test_features_of_a_past_day_are_those_that_the_model_was_trained_on(shop, spark):
    day = to_micros(AS_OF) - 2 * DAY
    examples = TRAINING_EXAMPLES.read(spark, night(shop.settings).outputs).toPandas()
    examples = examples[examples["as_of"] == day]
    found = shop.features(sorted({*examples["user_id"], "a stranger"}), pd.Timestamp(day, unit="us"))
    both = examples.merge(found, on=["user_id", "sale_id"], suffixes=("_learnt", ""))
    assert len(both) == len(examples) > 5
    for feature in ("collaborative", "content_metadata", "own_visits", "taste_text", "activity"):
        np.testing.assert_allclose(both[feature], both[f"{feature}_learnt"], atol=1e-5)
    assert both["own_visits"].nunique() > 2
    assert (found.loc[found["user_id"] == "a stranger", "own_visits"] == 0).all()


def test_features_as_of_the_last_night_need_no_other_night(shop, copy):
    nights = sorted((copy.folder / "var").glob("instants/*"))
    found = shop.features(["u00"])
    assert found["user_id"].tolist() == ["u00"] * len(found)
    assert len(found) > 5
    assert sorted((copy.folder / "var").glob("instants/*")) == nights


def test_coefficients_are_those_of_the_champion(shop):
    assert {"popularity", "own_visits"} <= set(shop.coefficients().index)
    assert shop.coefficients()["first"].abs().max() > 0


def test_night_that_has_run_is_returned_with_what_it_left_out(shop):
    done = shop.nightly()
    assert repr(shop).endswith(f"snapshot {done.snapshot}")
    assert any("certainty about version 1" in line.what for line in done.left_out)


def test_shop_without_a_night_says_what_to_do(tmp_path):
    young = Shop(SmallShop(tmp_path).write([], []).settings(serving=SERVING), progress=False)
    assert repr(young).endswith("none yet: run .nightly()")
    with pytest.raises(InputError, match=r"has no night yet: run \.nightly\(\)"):
        young.sales()
    with pytest.raises(SnapshotError, match="no snapshot is published"):
        young.top("u00")


def test_instant_without_a_zone_is_in_utc_and_one_in_the_past_is_refused(shop):
    page = shop.top("u00", at=(AS_OF + pd.Timedelta(hours=13)).replace(tzinfo=None)).response
    assert page.answer_time.ToMicroseconds() == to_micros(AS_OF) + 13 * HOUR
    with pytest.raises(ConfigurationError, match="must be from the present"):
        shop.top("u00", at="2026-02-01")
