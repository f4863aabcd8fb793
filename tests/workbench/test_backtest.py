from datetime import UTC, datetime
from types import SimpleNamespace

import pandas as pd
import pytest

from jobs.backtest.measure_peers import PEER_PAGES
from recsys.storage.outputs import Outputs
from recsys.tables.night import PAGE_METRICS
from workbench.backtest import Backtest

DAY = datetime(2026, 2, 1, tzinfo=UTC)
RESULT = {
    "window": {"from": "2026-02-01", "to": "2026-02-01", "pages": 2},
    "policies": {
        "popularity": {"ndcg@10": {"value": 0.1, "low": 0.05, "high": 0.2}, "coverage": 0.5},
        "meta": {"ndcg@10": {"value": 0.3, "low": 0.2, "high": 0.4}, "coverage": 0.9, "calibration": 1.1},
    },
    "differences": {"meta - meta_boosted": {"ndcg@10": {"value": 0.01, "low": -0.01, "high": 0.03}}},
    "coefficients": [{"feature": "popularity", "words": "Visits.", "first": 0.7}],
}


@pytest.fixture(scope="module")
def backtest(spark, tmp_path_factory) -> Backtest:
    folder = tmp_path_factory.mktemp("backtest")
    rows = pd.DataFrame(dict.fromkeys(PAGE_METRICS.columns, None), index=range(2))
    rows = rows.assign(
        as_of=[DAY] * 2,
        user_id=["u2", "u1"],
        policy="meta",
        first_purchase_at=[DAY] * 2,
        shown=[["a", "b"], ["b", "a"]],
        scores=[[0.5, -1.0], [2.0, 1.0]],
        bought=[["b", "z"], ["b"]],
        ranks=[[2, 12], [1]],
    )
    PAGE_METRICS.write_rows(rows, folder)
    return Backtest(
        RESULT,
        SimpleNamespace(
            spark=spark, folder=folder, outputs=Outputs.of(folder), settings=SimpleNamespace(own_disk=folder)
        ),
    )


def test_metrics_are_a_frame_best_policy_first_with_the_ends_of_intervals(backtest):
    frame = backtest.metrics
    assert frame.index.tolist() == ["meta", "popularity"]
    assert frame.loc["meta", ["ndcg@10", "ndcg@10_low", "ndcg@10_high", "coverage"]].tolist() == [0.3, 0.2, 0.4, 0.9]
    assert pd.isna(frame.loc["popularity", "calibration"])
    assert backtest.differences.loc["meta - meta_boosted", "ndcg@10_low"] == -0.01
    assert backtest.coefficients.loc["popularity", "first"] == 0.7


def test_pages_have_a_row_for_each_sale_that_was_shown_or_bought(backtest):
    frame = backtest.pages
    assert frame[["user_id", "sale_id", "rank", "bought"]].values.tolist() == [
        ["u1", "b", 1, True],
        ["u1", "a", 2, False],
        ["u2", "a", 1, False],
        ["u2", "b", 2, True],
        ["u2", "z", 12, True],
    ]
    assert frame["score"].tolist()[:4] == [2.0, 1.0, 0.5, -1.0]
    assert pd.isna(frame["score"][4])
    assert set(frame["as_of"]) == {pd.Timestamp(DAY)}


def test_pages_of_peers_are_there_too(backtest):
    peers = PAGE_METRICS.read(backtest.run.spark, backtest.run.folder).toPandas().assign(policy="peer_ALS")
    PEER_PAGES.write_rows(peers.assign(as_of=DAY, first_purchase_at=DAY), backtest.run.folder)
    with_peers = Backtest(RESULT | {"peers": {"peer_ALS": "factors 32"}}, backtest.run).pages
    assert with_peers["policy"].value_counts().to_dict() == {"meta": 5, "peer_ALS": 5}


def test_notebook_shows_metrics_and_the_place_of_the_report(backtest):
    html = backtest._repr_html_()
    assert repr(backtest).splitlines()[0].startswith("2026-02-01 to 2026-02-01: 2 pages; report: ")
    assert len(repr(backtest)) < 300 + len(str(backtest.report))
    assert "0.3000" in html
    assert str(backtest.report) in html
