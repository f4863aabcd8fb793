import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from recsys.instants import DAY
from recsys.meta_model import MetaModelSettings
from recsys.pipeline.examples import training_examples
from recsys.pipeline.impressions import Impressions, with_impressions
from recsys.testing.shops import AS_OF, make_shop, sale

SETTINGS = MetaModelSettings(negatives=3, seed=5)
USERS = ["u0", "u1", "u2", "u3", "u4"]
SHOP = make_shop([sale("a", closes=3), sale("b", -9, -3), sale("c", closes=3), sale("d", closes=3)], [], USERS)
"""Sale b is closed and in no horizon."""
PAGES = pa.list_(pa.struct([("shown_at", pa.int64()), ("sale_ids", pa.list_(pa.string()))]))
Page = tuple[int, list[str]]
"""Microseconds, and the sales from the top on."""


def exposures_of(spark: SparkSession, rows: list[tuple[str, float, list[str] | None]]) -> DataFrame:
    """Make exposures of user, days after AS_OF, and the sales of the page from the top on."""
    micros = [(user, AS_OF + round(days * DAY), sales) for user, days, sales in rows]
    frame = spark.createDataFrame(micros, "user_id string, moment long, sale_ids array<string>")
    return frame.withColumn("exposed_at", f.timestamp_micros("moment")).drop("moment")


def batch_of(pages: dict[str, list[Page] | None]) -> pa.RecordBatch:
    lists = [each and [{"shown_at": moment, "sale_ids": sales} for moment, sales in each] for each in pages.values()]
    return pa.RecordBatch.from_arrays([pa.array(pages, pa.string()), pa.array(lists, PAGES)], ["user_id", "pages"])


def positions(batch: pa.RecordBatch, users: list[str], as_of: int = AS_OF) -> np.ndarray:
    found = Impressions.from_batch(batch, SHOP.catalogue)
    return found.positions(pa.array(users, pa.string()), SHOP.catalogue.horizon(as_of, 36))


def positions_one_by_one(pages: dict[str, list[Page] | None], users: list[str], as_of: int) -> np.ndarray:
    sale_ids = [SHOP.catalogue.sale_ids[each] for each in SHOP.catalogue.horizon(as_of, 36).sales]
    rows = []
    for user in users:
        shown = [sales for moment, sales in pages.get(user) or [] if as_of <= moment < as_of + DAY]
        best = {
            sale_id: min((sales.index(sale_id) + 1 for sales in shown if sale_id in sales), default=0)
            for sale_id in sale_ids
        }
        rows.append([best[sale_id] if shown else -1 for sale_id in sale_ids])
    return np.array(rows, int).reshape(len(users), len(sale_ids))


def test_each_user_has_their_pages_with_sales(spark):
    histories = spark.createDataFrame([("u",), ("v",), ("w",), ("x",)], "user_id string")
    pages = [("u", 0.0, ["b", "a"]), ("u", 0.5, ["c"]), ("v", -0.2, ["d", "d"]), ("w", 0.1, []), ("w", 0.1, None)]
    rows = with_impressions(histories, exposures_of(spark, [*pages, ("unknown", 0.1, ["a"])])).collect()
    found = {row["user_id"]: row["pages"] and sorted(tuple(page) for page in row["pages"]) for row in rows}
    assert found == {
        "u": [(AS_OF, ["b", "a"]), (AS_OF + DAY // 2, ["c"])],
        "v": [(AS_OF - DAY // 5, ["d", "d"])],
        "w": None,
        "x": None,
    }


def test_best_position_of_the_24_hours_is_returned():
    pages = {
        "u0": [(AS_OF, ["b", "gone", "d", "c"]), (AS_OF + DAY - 1, ["a", "c"])],
        "u1": [(AS_OF - 1, ["a"]), (AS_OF + DAY, ["c"])],  # the days before and after
        "u2": [(AS_OF, ["gone", "b"])],
        "u3": None,
    }
    found = positions(batch_of(pages), ["u3", "u2", "u1", "u0", "not in the batch"])
    np.testing.assert_array_equal(found, [[-1] * 3, [0] * 3, [-1] * 3, [1, 2, 3], [-1] * 3])  # a, c, d
    np.testing.assert_array_equal(positions(batch_of(pages), ["u0", "u1"], AS_OF + DAY), [[-1] * 3, [0, 1, 0]])


INSTANTS = [AS_OF - DAY, AS_OF]
page = st.tuples(
    st.sampled_from([instant + shift for instant in INSTANTS for shift in (-1, 0, 1, DAY // 2, DAY - 1, DAY)]),
    st.lists(st.sampled_from(["a", "b", "c", "d", "gone", "aa", "z"]), min_size=1, max_size=5),
)


@given(
    pages=st.lists(st.none() | st.lists(page, max_size=4), min_size=len(USERS), max_size=len(USERS)),
    asked=st.lists(st.sampled_from([*USERS, "nobody"]), unique=True),
    cut=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    as_of=st.sampled_from(INSTANTS),
)
def test_positions_equal_those_of_a_loop_over_pages_also_in_a_slice_of_a_batch(pages, asked, cut, as_of):
    start, length = cut
    of_users = dict(zip(USERS, pages, strict=True))
    batch = batch_of(of_users).slice(start, length)
    in_batch = {user: of_users[user] for user in USERS[start : start + length]}
    np.testing.assert_array_equal(positions(batch, asked, as_of), positions_one_by_one(in_batch, asked, as_of))


def test_null_list_has_no_pages_even_if_values_are_stored_under_it():
    pages = batch_of({"u0": [(AS_OF, ["a"])], "u1": [(AS_OF, ["c"])], "u2": [(AS_OF, ["d", "c"])]}).column("pages")
    hidden = pa.ListArray.from_arrays(pages.offsets, pages.values, mask=pa.array([False, True, False]))
    batch = pa.RecordBatch.from_arrays([pa.array(USERS[:3]), hidden], ["user_id", "pages"])
    np.testing.assert_array_equal(positions(batch, USERS[:3]), [[1, 0, 0], [-1] * 3, [0, 2, 1]])


def test_users_of_a_batch_without_pages_have_no_page():
    batch = pa.RecordBatch.from_pylist([{"user_id": "u0"}])
    np.testing.assert_array_equal(positions(batch, ["u0", "u1"]), [[-1] * 3] * 2)
    assert positions(batch_of({}), []).shape == (0, 3)


@pytest.fixture(scope="module")
def both(spark, fitted) -> tuple[list[dict], list[dict], dict]:
    """Examples without pages, with pages, and a buyer's page: it shows the sales bought and five others."""
    as_of = fitted.instants[-1]
    plain = training_examples(fitted.histories, fitted.shop, [as_of], SETTINGS)
    rows = [row.asDict() for row in plain.orderBy("user_id", "sale_id").collect()]
    bought = next(row for row in rows if row["bought"])
    others = [each for each in fitted.sale_ids(as_of) if each != bought["sale_id"]][:5]
    sales = [others[0], bought["sale_id"], *others[1:]]
    exposures = exposures_of(spark, [(bought["user_id"], (as_of - AS_OF) / DAY + 0.3, sales)])
    seen = training_examples(with_impressions(fitted.histories, exposures), fitted.shop, [as_of], SETTINGS)
    shown_rows = [row.asDict() for row in seen.orderBy("user_id", "sale_id").collect()]
    return rows, shown_rows, {"user": bought["user_id"], "sales": sales}


def test_every_open_sale_that_was_shown_and_not_bought_is_an_example_with_its_position(both):
    _, rows, page = both
    own = {row["sale_id"]: row for row in rows if row["user_id"] == page["user"]}
    found = {sale_id: own[sale_id]["position"] for sale_id in page["sales"] if sale_id in own}
    assert found == {sale_id: page["sales"].index(sale_id) + 1 for sale_id in found}
    assert len(found) >= 4
    assert all(own[sale_id]["sampling_rate"] == 1 for sale_id in found)
    assert {row["position"] for sale_id, row in own.items() if sale_id not in page["sales"]} == {0}
    drawn = [row for sale_id, row in own.items() if sale_id not in page["sales"] and not row["bought"]]
    assert len(drawn) >= SETTINGS.negatives
    assert all(0 < row["sampling_rate"] < 1 for row in drawn)


def test_users_without_pages_have_the_same_examples_as_without_a_log(both):
    rows, seen, page = both
    assert [row for row in seen if row["user_id"] != page["user"]] == [
        row for row in rows if row["user_id"] != page["user"]
    ]
    assert len(rows) > 20
    assert {row["position"] for row in rows} == {-1}
