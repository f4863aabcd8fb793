import math

import numpy as np
import pyarrow as pa
import pytest

from recsys.backtest.policies import differences, paired_ndcg, summaries, variety
from recsys.instants import DAY, from_micros
from recsys.metrics import bootstrap
from recsys.testing.shops import AS_OF, make_shop, sale
from tests.helpers.measured_pages import measured, row

CATALOGUE = make_shop(
    [
        *(sale("a"), sale("b", opens=0.9), sale("c", opens=1.5, closes=1.9), sale("d", closes=0), sale("e", opens=-1)),
        sale("f", opens=2.1, closes=3),
    ],
    [],
).catalogue
A, B, C, D, E = range(5)
KNOWN = pa.table(
    {
        "as_of": [from_micros(AS_OF + day * DAY) for day in (0, 0, 1, 1, 5)],
        "sale_id": ["a", "e", "a", "b", "a"],
        "users": [2, 4, 8, 1, 7],
    }
)


@pytest.fixture(scope="module")
def pages():
    return measured(
        [
            row("one", "v", [1], [B], day=1, shown=[A, B]),
            row("one", "u", [1], [A], shown=[A, E]),
            row("one", "v", [3], [A], shown=[A, E]),
            row("other", "u", [1], [A], shown=[A, E]),
            row("other", "v", [3], [A], shown=[E, A]),
            row("other", "v", [3], [B], day=1, shown=[B, A]),
        ]
    )


def test_summary_of_a_policy_is_the_mean_over_its_pages(pages):
    found = summaries(pages, ["other", "one"], seed=0)
    assert list(found) == ["other", "one"]
    assert found["one"]["users"] == found["other"]["users"] == 2
    assert found["one"]["ndcg@10"]["value"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert found["one"]["mrr"]["value"] == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert found["other"]["ndcg@10"] == {"value": (1 + 1 / 2 + 1 / 2) / 3, "low": 1 / 2, "high": 1}
    assert found["other"]["recall@10"]["value"] == found["other"]["hit_rate@10"]["value"] == 1
    expected = bootstrap({"m": np.array([1, 1 / 2, 1])}, np.array(["u", "v", "v"]))["m"]
    assert found["one"]["ndcg@10"] == pytest.approx(expected._asdict())


def test_differences_are_paired_by_page_whatever_the_order_of_rows(pages):
    found = differences(pages, [("one", "other")], seed=0)["one - other"]
    # u: 0; v: 0 on the first day, 1/2 and in mrr 2/3 on the second. Drawn are u and v 0 to 2 times each.
    assert found["ndcg@10"] == {"value": pytest.approx(1 / 2 / 3), "low": 0, "high": 1 / 4}
    assert found["mrr"]["value"] == pytest.approx(2 / 3 / 3)
    assert paired_ndcg(pages, ["other", "one"], seed=0)["other - one"]["value"] == -found["ndcg@10"]["value"]


def test_variety_counts_the_sales_open_on_the_measured_days(pages):
    found = variety(pages, ["one"], CATALOGUE, KNOWN, n_users=16)["one"]
    # a, b, c and e are open on one of the two days, d and f on none; a is shown 3 times, b once, c never, e twice.
    assert found["coverage"] == 3 / 4
    assert found["gini"] == pytest.approx((-3 * 0 - 1 * 1 + 1 * 2 + 3 * 3) / (3 * 6))
    # Of 16 users 2 know a on the first day and 8 on the second, 4 know e on the first, 1 knows b on the second.
    assert found["novelty"] == pytest.approx((2 * math.log2(8) + 2 * math.log2(4) + math.log2(2) + math.log2(16)) / 6)


def test_gini_of_a_single_sale_is_zero():
    only = make_shop([sale("a")], []).catalogue
    pages = measured([row("one", "u", [1], [A], shown=[A])])
    found = variety(pages, ["one"], only, KNOWN.slice(0, 0), n_users=4)["one"]
    assert found == {"coverage": 1, "gini": 0, "novelty": 2}
