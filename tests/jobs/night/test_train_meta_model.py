"""When a night trains, which alias the version gets, and which version the night ranks by."""

from datetime import timedelta

import pytest

from jobs.engine.code_version import code_version
from jobs.engine.nights import night
from jobs.engine.run import with_inputs
from jobs.night.nightly import nightly
from jobs.night.prepare_experiments import PREPARE_EXPERIMENTS
from jobs.night.train_meta_model import (
    TAKE_CHAMPION,
    TRAIN_META_MODEL,
    read_model,
    read_trained_model,
    train_meta_model,
)
from jobs.night.validate_tables import VALIDATE_TABLES
from jobs.registry import tracking
from jobs.registry.promote_model import Asked, log_of, promote
from jobs.registry.retraining import training_is_due
from recsys.config.settings import Settings
from recsys.instants import DAY, to_micros
from recsys.meta_model import LogisticModel
from recsys.registry.versions import CHALLENGER, CHAMPION, model_configuration
from recsys.settings import digest
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import Snapshot
from tests.helpers.failing_registry import answering
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, SmallShop, random_rows

pytestmark = MLFLOW_WARNS

NOW = to_micros(AS_OF)
MODEL = LogisticModel(["popularity"], [0.5], [2.0], [0.25], -4.5)


@pytest.fixture
def shop(same_source) -> SmallShop:
    """A copy of the published shop; tests change its settings only."""
    return same_source


def register(settings: Settings, days: float, made_by: str = "nightly", **changes: str) -> str:
    """Register a version whose as_of is some days before AS_OF; return its number."""
    lineage = {
        tracking.AS_OF: (AS_OF - timedelta(days=days)).isoformat(),
        tracking.MADE_BY: made_by,
        tracking.CONFIGURATION: digest(model_configuration(settings)),
    }
    return tracking.register(settings, MODEL, {}, 1, f"{days} {made_by}", lineage | changes)


def test_first_night_trains(settings):
    assert training_is_due(settings, NOW)


@pytest.mark.parametrize(("days", "is_due"), [(0.01, False), (1, False), (6.99, False), (7, True), (30, True)])
def test_night_trains_if_the_newest_version_is_a_week_old(settings, days, is_due):
    register(settings, days)
    register(settings, 40)
    assert training_is_due(settings, NOW) is is_due


def test_maximum_age_of_a_version_is_configurable(settings):
    register(settings, 2)
    daily = {"meta_model": settings.meta_model.model_copy(update={"retrain_days": 1})}
    assert training_is_due(settings.model_copy(update=daily), NOW)
    assert not training_is_due(settings, NOW)


def test_training_is_still_due_for_a_night_that_was_killed_after_training(settings):
    register(settings, 0)
    assert training_is_due(settings, NOW)


def test_past_night_ignores_later_versions(settings):
    register(settings, -1)
    assert training_is_due(settings, NOW)


def test_version_of_a_backtest_or_of_another_configuration_does_not_count(settings):
    register(settings, 1, made_by="backtest")
    register(settings, 2, **{tracking.CONFIGURATION: "another"})
    assert training_is_due(settings, NOW)


def test_version_of_a_night_has_its_lineage(published_shop):
    settings = published_shop.settings()
    version = tracking.described(settings, CHAMPION)
    assert (version.as_of, version.made_by, version.code_version) == (NOW, "nightly", code_version(train_meta_model))
    assert version.configuration == digest(model_configuration(settings))
    assert version.data_fingerprint == night(settings).fingerprint(VALIDATE_TABLES)
    assert {"examples", "auc", "log_loss", "calibration"} == set(version.metrics)
    assert tracking.read_configuration(settings, version.version) == model_configuration(settings)
    assert log_of(settings).changes()[0].action == "first"


def served_version(settings: Settings) -> str:
    root = settings.snapshots_folder
    return Snapshot.open(root / snapshot_store.current(root)).versions["home_ranker"]


def test_later_version_is_the_challenger_and_does_not_rank_until_it_is_promoted(shop):
    settings = shop.settings(meta_model={"days": 2})
    assert training_is_due(settings, NOW)  # as the configuration is another one
    run = night(settings)
    nightly(run)
    assert (tracking.alias(settings, CHAMPION), tracking.alias(settings, CHALLENGER)) == ("1", "2")
    assert (read_model(run)[1], read_trained_model(run)[1], served_version(settings)) == ("1", "2", "1")
    promote(settings, "2", Asked(AS_OF, "ann", "to see"), force=True)
    nightly(night(settings))
    assert (read_model(run)[1], served_version(settings)) == ("2", "2")
    assert [each.version for each in tracking.versions(settings)] == ["2", "1"]  # it was not trained again


def test_promotion_during_a_night_affects_only_the_next_one(shop):
    settings = shop.settings()
    run = night(settings, trains=False)
    run.do((TAKE_CHAMPION,))
    tracking.register(settings, MODEL, {}, 1, "another")
    promote(settings, "2", Asked(AS_OF, "ann", "to see"), force=True)
    run.do((TAKE_CHAMPION,))
    assert read_model(run)[1] == "1"
    night(settings, trains=False).do((TAKE_CHAMPION,))
    assert read_model(run)[1] == "2"


def test_champion_of_another_model_or_registry_is_read_even_with_an_equal_version(tmp_path):
    shop = SmallShop(tmp_path).write(*random_rows(1))
    found = set()
    for mlflow in ({}, {"model_name": "sea_ranker"}, {"tracking_uri": "http://elsewhere"}):
        run = night(shop.settings(mlflow=mlflow))
        run.pinned[CHAMPION] = "1"
        found.add(digest(TAKE_CHAMPION.depends_on(run)))
    assert len(found) == 3


def test_champion_still_ranks_when_a_recommender_is_added(shop):
    settings = shop.settings()
    narrow = LogisticModel(["own_visits", "popularity"], [0.5, 1.0], [2.0, 1.0], [0.25, 1.5], -4.5)
    promote(settings, tracking.register(settings, narrow, {}, 1, "narrow"), Asked(AS_OF, "ann", "so"), force=True)
    run = night(settings)
    nightly(run)
    model, version = read_model(run)
    assert (version, served_version(settings)) == ("2", "2")
    used = {name for name, slope in zip(model.features, model.coefficients, strict=True) if slope}
    assert used == {"popularity", "own_visits"} < set(model.features)


def test_champion_still_ranks_without_a_removed_recommender_and_the_night_warns(shop, caplog):
    settings = shop.settings(recommenders={"without": ("own_visits",)})
    run = night(settings)
    nightly(run)
    model, version = read_model(run)
    assert (version, served_version(settings)) == ("1", "1")
    assert "own_visits" not in model.features
    assert model == tracking.read_version(settings, tracking.version_of(settings, CHAMPION)).over(
        read_trained_model(run)[0].features
    )
    assert "version 1 ranks without own_visits, which the shop does not have" in caplog.text


def test_night_whose_registry_answers_500_ranks_by_the_last_champion_and_says_so(shop, caplog):
    with answering(500) as address:
        settings = shop.settings(mlflow={"tracking_uri": address})
        assert not training_is_due(settings, NOW + 30 * DAY)
        run = night(settings, NOW)
        nightly(run)
    assert (read_model(run)[1], served_version(settings)) == ("1", "1")
    assert "a new version of the model: MLflow at http://127.0.0.1:" in caplog.text
    assert "the champion of the last night, version 1, ranks" in caplog.text


def test_night_without_training_in_a_shop_without_a_champion_ranks_by_no_model(shop):
    settings = shop.settings(mlflow={"model_name": "new"})
    run = night(settings, NOW, trains=False)
    name = nightly(run)
    assert read_model(run) == (None, "")
    snapshot = Snapshot.open(settings.snapshots_folder / name)
    assert (snapshot.policies, snapshot.manifest.missing_policies, snapshot.versions) == ((), ("meta",), {})


def test_night_that_cannot_learn_the_champion_says_that_mlflow_does_not_answer(shop):
    (shop.folder / "var/models/copies" / CHAMPION).unlink(missing_ok=True)
    with answering(500) as address:
        run = night(shop.settings(mlflow={"tracking_uri": address}), NOW, trains=False)
        run.do(with_inputs(PREPARE_EXPERIMENTS))
    (line,) = run.left_out((PREPARE_EXPERIMENTS,))
    assert line.why.startswith(f"MLflow at {address}: too many 500 error responses: check")


def test_training_alone_needs_no_champion():
    names = [step.name for step in with_inputs(TRAIN_META_MODEL)]
    assert names[-1] == "train_meta_model"
    assert "take_champion" not in names
