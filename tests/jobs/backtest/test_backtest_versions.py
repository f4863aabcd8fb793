"""Registered versions beside the backtest's own model."""

import shutil

import pyarrow.parquet as pq
import pytest

from jobs.backtest.backtest import backtest, window
from jobs.engine.run import Run
from jobs.registry import tracking
from jobs.registry.promote_model import evidence_of
from recsys.errors import ModelError
from recsys.instants import DAY, from_micros, to_micros
from recsys.meta_model import LogisticModel, MetaModel
from recsys.metrics import bootstrap
from recsys.pipeline.evaluation import page_metrics
from recsys.registry.versions import CHALLENGER, CHAMPION
from recsys.tables.night import USER_HISTORIES
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, SmallShop

pytestmark = MLFLOW_WARNS

LAST = to_micros(AS_OF) - DAY
FIRST = LAST - DAY
MODEL = LogisticModel(["popularity"], [0.0], [1.0], [1.0], -3.0)


def register(settings, model: MetaModel, as_of: int | None) -> str:
    lineage = {} if as_of is None else {tracking.AS_OF: from_micros(as_of).isoformat()}
    return tracking.register(settings, model, {}, 1, f"{model.coefficients} {as_of}", lineage)


@pytest.fixture(scope="module")
def registered(published_shop, tmp_path_factory) -> tuple[SmallShop, str, str]:
    """A shop with two versions whose data ends before the window; the second ranks in reverse, by fewer features."""
    folder = tmp_path_factory.mktemp("versions") / "shop"
    shutil.copytree(published_shop.folder, folder)
    shop = SmallShop(folder)
    model = tracking.read_version(shop.settings(), tracking.version_of(shop.settings(), CHAMPION))
    narrow = LogisticModel(["popularity", "own_visits"], [0.0, 0.0], [1.0, 1.0], [-1.0, -2.0], -3.0)
    return shop, register(shop.settings(), model, FIRST), register(shop.settings(), narrow, FIRST - DAY)


@pytest.fixture(scope="module")
def result_with_versions(registered) -> dict:
    shop, one, other = registered
    return backtest(window(shop.settings(), FIRST, LAST), versions=[one, other])


def test_versions_rank_the_same_pages_by_their_own_models(result_with_versions, registered, spark):
    shop, one, other = registered
    policies = result_with_versions["policies"]
    assert list(policies)[:4] == ["meta", "meta_boosted", f"meta@{one}", f"meta@{other}"]
    assert result_with_versions["window"]["versions"] == {
        "meta": result_with_versions["window"]["model"].split()[-1],
        f"meta@{one}": one,
        f"meta@{other}": other,
    }
    run = window(shop.settings(), FIRST, LAST)
    models = {name: tracking.read_version(shop.settings(), version) for name, version in (("a", one), ("b", other))}
    pages = page_metrics(USER_HISTORIES.read(spark, run.outputs), run.shop, run.days, models).toPandas()
    for name, version in (("a", one), ("b", other)):
        expected = pages.loc[pages["policy"] == name, "ndcg@10"].mean()
        assert policies[f"meta@{version}"]["ndcg@10"]["value"] == pytest.approx(expected)
    assert policies[f"meta@{one}"]["ndcg@10"] != policies[f"meta@{other}"]["ndcg@10"]


def test_each_pair_of_policies_has_a_difference_with_an_interval_over_users(result_with_versions, registered):
    shop, one, other = registered
    policies, differences = list(result_with_versions["policies"]), result_with_versions["paired_ndcg@10"]
    assert len(differences) == len(policies) * (len(policies) - 1) / 2
    pages = pq.read_table(window(shop.settings(), FIRST, LAST).outputs / "page_metrics").to_pandas()
    by_policy = pages.set_index(["as_of", "user_id", "policy"])["ndcg@10"].unstack()
    users = by_policy.index.get_level_values("user_id").to_numpy()
    for pair in (f"meta@{one} - meta@{other}", f"meta@{other} - popularity", "collaborative - own_visits"):
        first, second = pair.split(" - ")
        values = {pair: (by_policy[first] - by_policy[second]).to_numpy()}
        assert differences[pair] == pytest.approx(bootstrap(values, users, seed=0)[pair]._asdict())
    assert f"meta@{other} - meta@{one}" in result_with_versions["differences"]


def test_backtest_is_evidence_for_its_versions(result_with_versions, registered):
    shop, one, other = registered
    found, difference = evidence_of(shop.settings(), other, one), result_with_versions["paired_ndcg@10"]
    assert found.value == -difference[f"meta@{one} - meta@{other}"]["value"]
    assert (found.first_day, found.last_day) == ("2026-02-27", "2026-02-28")


def test_champion_and_challenger_are_measured_by_default(registered):
    shop, one, other = registered
    settings = shop.settings()
    tracking.point(settings, CHAMPION, one)
    tracking.point(settings, CHALLENGER, other)
    result = backtest(window(settings, FIRST, LAST))
    assert list(result["window"]["versions"].values())[1:] == [one, other]
    assert list(backtest(window(settings, FIRST, LAST), versions=[])["window"]["versions"]) == ["meta"]


@pytest.mark.parametrize(
    ("as_of", "says"),
    [
        (
            FIRST + 1,
            "has as_of 2026-02-27 00:00 UTC, must be at most the window's first day, 2026-02-27: it has seen the "
            "answers; choose a later --from",
        ),
        (None, "has no as_of, must have one to be measured: train it again with 'recsys nightly'"),
    ],
)
def test_version_whose_data_overlaps_the_window_is_refused_before_any_step(registered, monkeypatch, as_of, says):
    shop, one, _ = registered
    version = register(shop.settings(), MODEL, as_of)
    monkeypatch.setattr(Run, "do", None)
    with pytest.raises(ModelError) as error:
        backtest(window(shop.settings(), FIRST, LAST), versions=[one, version])
    assert str(error.value) == f"version {version} {says}"


def test_version_is_measured_without_features_that_the_shop_no_longer_has(registered, caplog):
    shop, _, other = registered
    settings = shop.settings()
    richer = LogisticModel(["gone", "popularity", "own_visits"], [5.0, 0.0, 0.0], [1.0] * 3, [9.0, -1.0, -2.0], -3.0)
    version = register(settings, richer, FIRST)
    policies = backtest(window(settings, FIRST, LAST), versions=[other, version])["policies"]
    assert policies[f"meta@{version}"] == policies[f"meta@{other}"]
    assert f"version {version} ranks without gone, which the shop does not have" in caplog.text
