import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from recsys.instants import DAY
from recsys.meta_model import MetaModelSettings
from recsys.pipeline.examples import training_examples
from recsys.pipeline.impressions import Impressions, with_impressions
from tests.helpers.shops import AS_OF, make_shop, sale

SETTINGS = MetaModelSettings(negatives=3, seed=5)
LISTS = ["shown_on", "shown_sales", "shown_places"]


def pages(spark: SparkSession, rows: list[tuple[str, float, list[str]]]) -> DataFrame:
    """Make exposures of user, days after AS_OF, and the sales of the page from the first place on."""
    micros = [(user, AS_OF + round(days * DAY), sales) for user, days, sales in rows]
    frame = spark.createDataFrame(micros, "user_id string, moment long, sale_ids array<string>")
    return frame.withColumn("exposed_at", f.timestamp_micros("moment")).drop("moment")


def shown(spark: SparkSession, users: list[str], exposures: DataFrame, as_ofs: list[int]) -> dict[str, list]:
    histories = spark.createDataFrame([(user,) for user in users], "user_id string")
    rows = with_impressions(histories, exposures, as_ofs).collect()
    return {row["user_id"]: [row[name] and list(row[name]) for name in LISTS] for row in rows}


def test_sales_are_in_once_a_day_with_their_best_place(spark):
    exposures = pages(
        spark,
        [
            ("u", 0.0, ["a", "b", "c"]),  # at the instant itself
            ("u", 0.5, ["c", "d"]),  # c stands higher up
            ("u", 1.0, ["b"]),  # the next day
            ("u", -0.001, ["e"]),  # the day before, which is not asked for
            ("v", 0.2, ["d"]),
        ],
    )
    assert shown(spark, ["u", "v", "w"], exposures, [AS_OF, AS_OF + DAY]) == {
        "u": [[AS_OF] * 4 + [AS_OF + DAY], ["a", "b", "c", "d", "b"], [1, 2, 1, 2, 1]],
        "v": [[AS_OF], ["d"], [1]],
        "w": [None, None, None],
    }


def test_places_are_those_of_the_sales_of_the_horizon():
    shop = make_shop([sale("a"), sale("b", -9, -3), sale("c"), sale("d")], [], users=["u"])
    batch = pa.RecordBatch.from_pylist(
        [
            {"user_id": "u", LISTS[0]: [AS_OF, AS_OF, AS_OF, AS_OF - DAY], LISTS[1]: ["c", "b", "gone", "d"]}
            | {LISTS[2]: [2, 1, 3, 1]},
            {"user_id": "v", LISTS[0]: None, LISTS[1]: None, LISTS[2]: None},
        ]
    )
    found = Impressions.from_batch(batch).places(pa.array(["v", "u", "x"]), shop.horizon(), shop.catalogue.position)
    np.testing.assert_array_equal(found, [[-1, -1, -1], [0, 2, 0], [-1, -1, -1]])  # a, c, d


def test_batch_without_pages_shows_nobody_anything():
    assert Impressions.from_batch(pa.RecordBatch.from_pylist([{"user_id": "u"}])) == Impressions({})


@pytest.fixture(scope="module")
def both(spark, fitted) -> tuple[list[dict], list[dict], dict]:
    """Examples without pages, with pages, and a buyer's page: he was shown what he bought, and five other sales."""
    as_of = fitted.instants[-1]
    plain = training_examples(fitted.histories, fitted.shop, [as_of], SETTINGS)
    rows = [row.asDict() for row in plain.orderBy("user_id", "sale_id").collect()]
    bought = next(row for row in rows if row["bought"])
    others = [each for each in fitted.sale_ids(as_of) if each != bought["sale_id"]][:5]
    sales = [others[0], bought["sale_id"], *others[1:]]
    exposures = pages(spark, [(bought["user_id"], (as_of - AS_OF) / DAY + 0.3, sales)])
    seen = training_examples(fitted.histories, fitted.shop, [as_of], SETTINGS, exposures)
    shown_rows = [row.asDict() for row in seen.orderBy("user_id", "sale_id").collect()]
    return rows, shown_rows, {"user": bought["user_id"], "sales": sales}


def test_every_sale_that_was_shown_and_open_and_not_bought_is_an_example_with_its_place(both):
    _, rows, page = both
    own = {row["sale_id"]: row for row in rows if row["user_id"] == page["user"]}
    found = {sale_id: own[sale_id]["place"] for sale_id in page["sales"] if sale_id in own}
    assert found == {sale_id: page["sales"].index(sale_id) + 1 for sale_id in found}
    assert len(found) >= 4
    assert all(own[sale_id]["sampling_rate"] == 1 for sale_id in found)
    assert {row["place"] for sale_id, row in own.items() if sale_id not in page["sales"]} == {0}
    drawn = [row for sale_id, row in own.items() if sale_id not in page["sales"] and not row["bought"]]
    assert len(drawn) >= SETTINGS.negatives
    assert all(0 < row["sampling_rate"] < 1 for row in drawn)


def test_users_who_saw_no_page_have_the_examples_that_they_have_without_a_log(both):
    rows, seen, page = both
    assert [row for row in seen if row["user_id"] != page["user"]] == [
        row for row in rows if row["user_id"] != page["user"]
    ]
    assert len(rows) > 20
    assert {row["place"] for row in rows} == {-1}
