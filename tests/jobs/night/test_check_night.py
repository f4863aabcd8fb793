"""A night that fails its checks is not published; the values of each night are stored."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.engine.nights import night
from jobs.night.nightly import nightly
from jobs.night.train_meta_model import read_model
from recsys.config.settings import Settings
from recsys.errors import NightCheckError
from recsys.instants import DAY, to_micros
from recsys.meta_model import META
from recsys.pipeline.evaluation import page_metrics
from recsys.pipeline.night_values import NightValues, read_night_values, write_night_values
from recsys.snapshot import store as snapshot_store
from recsys.tables.night import USER_HISTORIES
from recsys.tables.parts import read_arrow
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, SmallShop, contents

pytestmark = MLFLOW_WARNS

NOW = to_micros(AS_OF)
TOMORROW = NOW + DAY


@pytest.fixture
def shop(same_source) -> SmallShop:
    """A copy of the published shop; tests change its settings only."""
    return same_source


@pytest.fixture
def values(published_shop) -> NightValues:
    (found,) = read_night_values(Path(published_shop.settings().folder))
    return found


def test_values_of_a_night_are_stored(values, published_shop):
    folder = night(published_shop.settings()).outputs
    rankings = pq.read_table(folder / "rankings").to_pylist()
    counts = json.loads((folder / "rule_counts.json").read_text())
    rows = {count["table"]: count["rows"] for count in counts}
    aside = sum(count["broken"] for count in counts if count["rule"]["action"] == "set aside")
    assert (values.as_of, values.version, values.problems) == (AS_OF, "1", ())
    assert values.users == len(rankings) > 30
    assert values.rejected_share == pytest.approx(aside / sum(rows.values()))
    assert values.sales_covered == 1 == len({sale for row in rankings for sale in row["meta_sales"]}) / 8


def test_ndcg_is_that_of_the_champion_on_yesterdays_pages(values, published_shop, spark):
    run = night(published_shop.settings())
    pages = page_metrics(
        USER_HISTORIES.read(spark, run.outputs), run.shop, [NOW - DAY], {META: read_model(run)[0]}
    ).toPandas()
    of_meta = pages[pages["policy"] == META]
    assert values.pages == len(of_meta) > 5
    assert values.ndcg == pytest.approx(of_meta["ndcg@10"].mean())


def test_drift_compares_yesterdays_examples_with_all_training_days(values, published_shop):
    run = night(published_shop.settings())
    model, _ = read_model(run)
    examples = read_arrow(run.outputs / "training_examples").to_pandas()
    yesterday = examples[examples["as_of"] == NOW - DAY]
    assert values.purchases == yesterday["bought"].sum() > 3
    for name, mean, scale in zip(model.features, model.means, model.scales, strict=True):
        assert mean == pytest.approx(examples[name].mean(), rel=1e-4, abs=1e-5)
        assert values.drift[name] == pytest.approx((yesterday[name].mean() - mean) / scale, rel=1e-3, abs=1e-4)
    assert values.calibration > 0
    assert len(set(np.round(list(values.drift.values()), 3))) > 5


def strict(shop: SmallShop, **limits: object) -> Settings:
    return shop.settings(night_checks={"min_cases": 1, **limits})


def refuse(shop: SmallShop, settings: Settings) -> str:
    """Return the error of a night that is not published."""
    snapshots = contents(settings.snapshots_folder)
    with pytest.raises(NightCheckError) as error:
        nightly(night(settings))
    assert contents(settings.snapshots_folder) == snapshots
    assert len(snapshots) > 5
    return str(error.value)


def test_night_that_fails_a_check_says_why_and_the_last_snapshot_stays_in_use(shop):
    message = refuse(shop, strict(shop, max_feature_drift=1e-6))
    assert message.startswith(
        "the night as of 2026-03-01 00:00 UTC is not published, the last snapshot stays in use: mean of feature "
    )
    assert "must be within 1e-06 (night_checks.max_feature_drift)" in message
    assert message.endswith("; or change the limit in the configuration, and run the night again")
    (refused,) = read_night_values(Path(shop.settings().folder))
    assert len(refused.problems) == 1
    assert refused.problems[0] in message


def test_changed_limit_lets_the_same_night_pass_and_a_stricter_one_stops_it_again(shop):
    refuse(shop, strict(shop, max_feature_drift=1e-6))
    settings = strict(shop, max_feature_drift=9.0)
    name = nightly(night(settings))
    assert snapshot_store.current(settings.snapshots_folder) == name
    assert [each.problems for each in read_night_values(Path(settings.folder))] == [()]
    refuse(shop, strict(shop, max_feature_drift=1e-6))


def test_night_is_compared_with_earlier_nights(shop, values):
    settings = strict(shop, max_feature_drift=99.0)
    for days, users in ((3, 40), (2, 40), (1, 900)):
        usual = {"as_of": AS_OF - timedelta(days=days), "ndcg": 0.99 + days / 1000, "users": users}
        write_night_values(values.model_copy(update=usual), Path(settings.folder))
    later = {"as_of": AS_OF + timedelta(days=2), "users": 90_000, "ndcg": 0.0}
    write_night_values(values.model_copy(update=later), Path(settings.folder))
    message = refuse(shop, strict(shop, max_feature_drift=99.0, min_ndcg_share=1.0))
    assert "users ranked == 40, 4.44% of the night before, must be at least 50.00%" in message
    assert "must be at least 100.00% of 0.9920, the mean of the last 3 nights (night_checks.min_ndcg_share)" in message


def test_night_after_a_day_without_purchases_has_the_values_that_need_none(shop):
    name = nightly(night(shop.settings(), TOMORROW, trains=False))
    _, tomorrow = read_night_values(Path(shop.settings().folder))
    assert (tomorrow.purchases, tomorrow.pages, tomorrow.ndcg, tomorrow.drift) == (0, 0, None, {})
    assert (tomorrow.users, tomorrow.calibration) == (40, None)
    assert snapshot_store.current(shop.settings().snapshots_folder) == name
