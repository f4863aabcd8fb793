from io import StringIO
from math import log2
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from jobs.backtest.measure_peers import untied
from jobs.backtest.peer_pages import NEW, Day, baseline_pages, best_settings, pages_of_days, ranks_of
from recsys.backtest.baselines import POPULARITY, Baseline, Kind
from recsys.console import TextConsole
from recsys.instants import DAY, HOUR
from recsys.metrics import ranks
from recsys.shop.catalogue import Catalogue
from recsys.shop.histories import Block, HistorySettings

AS_OF = 100 * DAY
WEEK = Baseline(POPULARITY, (("days", 7),))


def constant(scores: list[float], name: str = "constant") -> Kind:
    """Return a kind that gives all users the same scores, times its setting `sign`."""
    row = np.array(scores, np.float32)
    return Kind(
        name, lambda _, settings: lambda rows: settings["sign"] * np.tile(row, (len(rows), 1)), {"sign": (1, -1)}
    )


@pytest.fixture
def run() -> SimpleNamespace:
    """A shop with five sales that are always open."""
    always = np.array([0] * 5), np.array([200 * DAY] * 5)
    catalogue = Catalogue([*"abcde"], *always, np.ones(5), [""] * 5, [""] * 5, [{}] * 5)
    shop = SimpleNamespace(catalogue=catalogue, horizon=lambda as_of: catalogue.horizon(as_of, 24))
    return SimpleNamespace(shop=shop, settings=SimpleNamespace(history=HistorySettings()), days=[AS_OF, AS_OF + DAY])


@pytest.fixture
def everyone() -> Block:
    """Known purchases: sale 3 by two users, sale 1 by one. Today, user `old` buys sale 3 and 4, and `new` sale 1."""
    users = {
        "old": [(3, AS_OF - DAY), (3, AS_OF + HOUR), (4, AS_OF + HOUR)],
        "other": [(1, AS_OF - 2 * DAY), (3, AS_OF - DAY)],
        "new": [(1, AS_OF + HOUR)],
    }
    events = [event for of_user in users.values() for event in of_user]
    offsets = np.concatenate(([0], np.cumsum([len(of_user) for of_user in users.values()])))
    sales, occurred_at = (np.array(column) for column in zip(*events, strict=True))
    bought = np.ones(len(events), bool)
    return Block(pa.array([*users]), 5, offsets, sales.astype(np.int32), bought, occurred_at, occurred_at)


def ndcg(run, everyone, baseline: Baseline, ties: Baseline | None) -> dict[tuple[str, str], float]:
    pages = baseline_pages(Day.of(run, everyone, AS_OF), [baseline], ties)
    return dict(zip(zip(pages["case"], pages["user_id"], strict=True), pages["ndcg@10"], strict=True))


def test_sales_of_the_same_score_are_ranked_by_popularity_then_by_id(run, everyone):
    nothing = next(constant([0, 0, 0, 0, 0]).baselines())
    found = ndcg(run, everyone, nothing, ties=WEEK)  # d (2 events), b (1), a, c, e
    ideal = 1 + 1 / log2(3)
    assert found == pytest.approx(
        {
            ("repeats allowed", "old"): (1 + 1 / log2(6)) / ideal,
            ("repeats allowed", "new"): 1 / log2(3),
            (NEW, "old"): 1 / log2(5),  # without d: b, a, c, e
            (NEW, "new"): 1 / log2(3),
        }
    )
    assert ndcg(run, everyone, nothing, ties=None)[NEW, "old"] == pytest.approx(1 / log2(5))  # a, b, c, e
    assert ndcg(run, everyone, nothing, ties=None)[NEW, "new"] == pytest.approx(1 / log2(3))


def test_popularity_breaks_ties_only(run, everyone):
    found = ndcg(run, everyone, next(constant([5, 1, 1, 1, 9]).baselines()), ties=WEEK)  # e, a, d, b, c
    assert found["repeats allowed", "new"] == pytest.approx(1 / log2(5))
    assert found[NEW, "old"] == 1


def test_settings_are_chosen_for_each_case_by_the_days_given(run, everyone):
    kind = constant([0, 2, 1, 3, -1])  # as it is: d first, e last; the other way round: e first, d last
    text = StringIO()
    chosen = best_settings([Day.of(run, everyone, AS_OF)], [kind], lambda line: text.write(f"{line}\n"))
    assert [each.kind.name for each in chosen[NEW]] == ["popularity", "constant"]
    assert {case: dict(each[1].settings)["sign"] for case, each in chosen.items()} == {"repeats allowed": 1, NEW: -1}
    assert "tuned constant, 2 settings" in text.getvalue()


def test_ranks_of_some_sales_are_those_of_all_sorted():
    random = np.random.default_rng(0)
    for _ in range(20):
        scores = random.integers(0, 9, 40).astype(np.float32)  # many of the same score
        chosen = np.sort(random.choice(40, 6, replace=False))
        assert_array_equal(ranks_of(scores, chosen), ranks(scores[None], np.ones((1, 40), bool))[0, chosen])


def test_every_day_is_measured_and_reported(run, everyone):
    text = StringIO()
    pages = pages_of_days(run, everyone, [WEEK], WEEK, TextConsole(file=text, width=200))
    assert pages["as_of"].unique().tolist() == [pd.Timestamp("1970-04-11")]  # nobody bought on the day after
    assert ["day 1 of 2" in text.getvalue(), "day 2 of 2" in text.getvalue()] == [True, True]


def test_scores_without_ties_keep_the_order_and_break_ties_by_the_order_given():
    scores = np.array([[2.0, 5.0, 2.0, 2.0], [0.0, 0.0, 0.0, 1.0]])
    assert_array_equal(untied(scores, np.array([3, 0, 2, 1])), [[-2, 0, -3, -1], [-1, -3, -2, 0]])
