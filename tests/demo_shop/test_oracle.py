import pandas as pd
import pyarrow.parquet as pq
import pytest

from demo_shop.oracle import oracle, oracle_pages
from recsys.pipeline.histories import user_histories
from recsys.pipeline.shop import Shop
from recsys.recommenders import RecommenderSettings
from recsys.shop.histories import HistorySettings
from recsys.storage.outputs import Outputs
from recsys.testing.shops import AS_OF, make_shop, purchase, sale, visit
from tests.helpers.import_graph import importers
from tests.helpers.measured_pages import measured, row

PLACES = ["sea", "snow"]
SALES = {"a": (1.0, 0.0), "b": (0.0, 1.0), "c": (0.5, 0.5), "d": (0.0, 0.0)}
TASTES = {"u": (2.0, 1.0), "v": (-1.0, 1.0)}  # u: a 2, c 1.5, b 1, d 0; v: b 1, then c and d 0, a -1


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """The truth of a shop of two users and four sales; pictures do not matter."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "truth").mkdir()
    tastes = pd.DataFrame(TASTES.values(), columns=PLACES).assign(user_id=list(TASTES), **{"picture=sky": 0.0})
    traits = pd.DataFrame(SALES.values(), columns=PLACES).assign(sale_id=list(SALES))
    tastes.to_parquet(folder / "truth/user_tastes.parquet")
    traits.to_parquet(folder / "truth/sale_traits.parquet")
    pd.DataFrame({"sale_id": list(SALES), "sky": 1.0}).to_parquet(folder / "truth/sale_pictures.parquet")
    return folder


def test_pages_are_ranked_by_the_true_utilities_and_users_without_tastes_are_left_out(truth, spark, tmp_path):
    data = make_shop(
        [sale("a"), sale("b"), sale("c", opens=0.6), sale("d")],
        [
            visit("u", "b", -0.5),
            purchase("u", "b", 0.5),  # c is not open yet: a is before it
            purchase("v", "d", 0.7),  # behind b and c, which is as good and comes first
            purchase("v", "b", 0.8),
            purchase("stranger", "a", 0.5),
        ],
    )
    (tmp_path / "sales").mkdir()
    pq.write_table(data.sales, tmp_path / "sales/part.parquet")
    shop = Shop(Outputs(str(tmp_path)), HistorySettings(), RecommenderSettings(), horizon_hours=36)
    histories = user_histories(spark.createDataFrame(data.events), data.catalogue)
    rows = oracle_pages(histories, shop, [AS_OF], truth).toPandas().sort_values("user_id")
    assert rows["user_id"].to_list() == ["u", "v"]
    assert set(rows["policy"]) == {"oracle"}
    assert [list(each) for each in rows["ranks"]] == [[2], [1, 3]]
    assert [list(each) for each in rows["shown"]] == [["a", "b", "d"], ["b", "c", "d", "a"]]
    assert rows["mrr"].to_list() == [1 / 2, 1]


def pages_of(ranks: dict[str, int], policy: str) -> list[dict]:
    return [row(policy, user, [rank], [0]) for user, rank in ranks.items()]


def test_share_is_the_ratio_of_sums_over_the_pages_that_both_have():
    pages = measured(pages_of({"u": 3, "v": 1, "stranger": 1}, "meta"))  # ndcg 1/2, 1, and 1 that does not count
    found = oracle(pages, measured(pages_of({"v": 1, "u": 1}, "oracle")), seed=0)
    assert found == {
        "ndcg@10": {"value": 1, "low": 1, "high": 1},
        "share": {"value": (1 / 2 + 1) / (1 + 1), "low": 1 / 2, "high": 1},
    }


def test_without_pages_or_with_an_ndcg_of_zero_there_is_no_oracle():
    pages = measured(pages_of({"u": 3}, "meta"))
    assert oracle(pages, measured(pages_of({"u": 11}, "oracle")), seed=0) is None
    assert oracle(pages, measured(pages_of({"v": 1}, "oracle")), seed=0) is None


def test_truth_is_known_to_the_backtest_alone():
    assert {path.parent.name for path in importers("demo_shop.truth")} == {"demo_shop"}
    users = {path.as_posix() for path in importers("demo_shop.oracle")}
    assert users == {"jobs/backtest/backtest.py", "jobs/backtest/measure_pages.py"}
