import pytest
from small_shop import MLFLOW_WARNS, SmallShop

from jobs import tracking
from recsys.config import Settings
from recsys.errors import ModelError
from recsys.meta_model import MetaModel

pytestmark = MLFLOW_WARNS

MODEL = MetaModel(["popularity", "own_visits"], [0.5, 1.0], [2.0, 1.0], [0.25, -1 / 3], -4.5)
OTHER = MetaModel(["popularity"], [0.0], [1.0], [1.0], 0.0)


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> SmallShop:
    """A shop whose database of models the tests of this module share; each names a model of its own."""
    return SmallShop(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def settings(registry, request) -> Settings:
    return registry.settings(mlflow={"model_name": request.node.name})


def versions(settings: Settings) -> list[str]:
    client = tracking._client(settings)
    found = client.search_model_versions(f"name = '{settings.mlflow.model_name}'")
    return sorted(str(version.version) for version in found)


def test_registered_model_is_the_champion_and_reads_back_equal(settings):
    version = tracking.register(settings, MODEL, {"auc": 0.75}, 120, "first")
    assert tracking.champion(settings) == (MODEL, version) == (MODEL, "1")


def test_same_fingerprint_is_registered_once(settings):
    assert [tracking.register(settings, MODEL, {}, 120, "same") for _ in range(3)] == ["1", "1", "1"]
    assert versions(settings) == ["1"]
    assert tracking.register(settings, OTHER, {}, 120, "another") == "2"
    assert tracking.champion(settings) == (OTHER, "2")


def test_earlier_fingerprint_makes_its_version_the_champion_again(settings):
    for model, fingerprint in ((MODEL, "one"), (OTHER, "two"), (MODEL, "one")):
        tracking.register(settings, model, {}, 120, fingerprint)
    assert tracking.champion(settings) == (MODEL, "1")
    assert versions(settings) == ["1", "2"]


def test_model_without_champion_is_an_error_with_the_next_step(settings):
    with pytest.raises(ModelError) as error:
        tracking.champion(settings)
    assert str(error.value) == (
        f"model '{settings.mlflow.model_name}' has no alias 'champion': train one with 'recsys nightly'"
    )


def test_run_carries_parameters_metrics_coefficients_and_fingerprint(settings):
    tracking.register(settings, MODEL, {"auc": 0.75}, 120, "logged")
    client = tracking._client(settings)
    version = client.get_model_version(settings.mlflow.model_name, "1")
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["meta_model.negatives"] == "5"
    assert run.data.params["history.days"] == "90"
    assert run.data.params["popularity.half_life_days"] == "2.0"
    assert run.data.metrics == {
        "auc": 0.75,
        "examples": 120,
        "coefficient.popularity": 0.25,
        "coefficient.own_visits": -1 / 3,
    }
    assert run.data.tags["fingerprint"] == version.tags["fingerprint"] == "logged"


def test_backtest_is_logged_as_a_run_of_its_own(settings):
    estimate = {"value": 0.5, "low": 0.25, "high": 0.75}
    result = {"window": {"days": 1}, "policies": {"meta": {"ndcg@10": estimate, "users": 9, "auc": 0.9}}}
    tracking.log_backtest(settings, result)
    client = tracking._client(settings)
    experiment = client.get_experiment_by_name(settings.mlflow.experiment)
    (run,) = client.search_runs([experiment.experiment_id], "tags.mlflow.runName = 'backtest'")
    assert run.data.metrics == {"meta.ndcg_at_10": 0.5, "meta.users": 9, "meta.auc": 0.9}


def test_everything_of_mlflow_lies_below_the_folder(settings, registry, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    tracking.register(settings, MODEL, {}, 120, "placed")
    assert not list(tmp_path.iterdir())
    assert {path.name for path in (registry.folder / "var").iterdir()} <= {"mlflow.db", "mlartifacts", ".lock"}


def test_database_whose_making_was_killed_is_made_anew(tmp_path):
    half_made = tmp_path / "shop/var/.tmp-mlflow"
    half_made.mkdir(parents=True)
    (half_made / "mlflow.db").write_bytes(b"half a database")
    (half_made / "mlflow.db-journal").write_bytes(b"of another")
    settings = SmallShop(tmp_path / "shop").settings()
    with pytest.raises(ModelError):
        tracking.champion(settings)
    assert not half_made.exists()


def test_model_of_other_features_is_refused_with_both_lists():
    with pytest.raises(
        ModelError, match=r"trained on features popularity, own_visits; the configuration gives popularity"
    ):
        MODEL.require_features(["popularity"])
