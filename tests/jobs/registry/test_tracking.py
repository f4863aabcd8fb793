import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from jobs.registry import tracking
from jobs.registry.connection import client_of, experiment_id, read_artifact
from recsys.config.settings import MlflowSettings
from recsys.errors import ModelError, RegistryError
from recsys.instants import to_micros
from recsys.meta_model import LogisticModel
from recsys.meta_model.base import BoostedSettings
from recsys.registry.versions import CHALLENGER, CHAMPION
from tests.helpers.failing_registry import answering, impatient
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, SmallShop

pytestmark = MLFLOW_WARNS

MODEL = LogisticModel(["popularity", "own_visits"], [0.5, 1.0], [2.0, 1.0], [0.25, -1 / 3], -4.5)
OTHER = LogisticModel(["popularity"], [0.0], [1.0], [1.0], 0.0)


def test_registered_model_reads_back_equal_and_has_no_alias(settings):
    version = tracking.register(settings, MODEL, {"auc": 0.75}, 120, "first")
    assert (version, tracking.read_version(settings, version)) == ("1", MODEL)
    assert tracking.alias(settings, CHAMPION) is None


def test_registry_of_a_shop_is_in_its_folder_whatever_characters_the_name_has(tmp_path):
    """A question mark would end a database's name, and the rest would be options."""
    settings = SmallShop(tmp_path).settings(folder=str(tmp_path / "a?b=c d%20e#f"))
    assert tracking.versions(settings) == []
    assert (Path(settings.folder) / "mlflow.db").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a?b=c d%20e#f"]


def test_same_fingerprint_is_registered_once(settings):
    assert [tracking.register(settings, MODEL, {}, 120, "same") for _ in range(3)] == ["1", "1", "1"]
    assert tracking.register(settings, OTHER, {}, 120, "another") == "2"
    assert [each.version for each in tracking.versions(settings)] == ["2", "1"]


def test_alias_has_one_version_at_a_time(settings):
    for fingerprint in ("one", "two"):
        tracking.point(settings, CHAMPION, tracking.register(settings, OTHER, {}, 120, fingerprint))
    assert tracking.version_of(settings, CHAMPION) == "2"
    tracking.point(settings, CHAMPION, "1")
    assert tracking.version_of(settings, "champion") == tracking.alias(settings, "champion") == "1"


def test_challenger_that_becomes_the_champion_is_no_longer_the_challenger(settings):
    for fingerprint in ("one", "two", "three"):
        tracking.register(settings, MODEL, {}, 120, fingerprint)
    tracking.point(settings, CHAMPION, "1")
    tracking.point(settings, CHALLENGER, "3")
    tracking.point(settings, CHAMPION, "2")
    assert tracking.alias(settings, CHALLENGER) == "3"
    tracking.point(settings, CHAMPION, "3")
    assert tracking.alias(settings, CHALLENGER) is None


def test_version_has_its_lineage(settings):
    lineage = {
        tracking.AS_OF: AS_OF.isoformat(),
        tracking.MADE_BY: "nightly",
        tracking.CODE_VERSION: "c0de",
        tracking.CONFIGURATION: "c0f",
        tracking.DATA_FINGERPRINT: "da7a",
    }
    tracking.register(settings, MODEL, {"auc": 0.75}, 120, "with lineage", lineage)
    tracking.point(settings, CHALLENGER, "1")
    found = tracking.described(settings, "challenger")
    assert (found.version, found.aliases, found.as_of) == ("1", ("challenger",), to_micros(AS_OF))
    assert (found.made_by, found.code_version, found.configuration) == ("nightly", "c0de", "c0f")
    assert found.data_fingerprint == "da7a"
    assert (found.fingerprint, found.metrics) == ("with lineage", {"auc": 0.75, "examples": 120})
    assert [found] == tracking.versions(settings)


def test_version_has_its_configuration_and_its_signature(settings):
    tracking.register(settings, MODEL, {}, 120, "with files", files={"theme_model.json": "{}"})
    configuration = tracking.read_configuration(settings, "1")
    assert configuration["meta_model"] == {
        "kind": "conditional",
        "days": 3,
        "max_examples": 2_000_000,
        "moments": "session",
        "bends": True,
        "negatives": 20,
        "regularization": 1.0,
        "seed": 0,
        "min_repeats": 200,
        "boosted": BoostedSettings().model_dump(),
    }
    assert configuration["recommenders"]["popularity"]["half_life_days"] == 2.0
    run_id = tracking._run_of(settings, "1")
    inputs = read_artifact(settings, run_id, "model/MLmodel", yaml.safe_load)["signature"]["inputs"]
    assert [each["name"] for each in json.loads(inputs)] == ["popularity", "own_visits", "bought_before"]
    assert read_artifact(settings, run_id, "model/theme_model.json", str) == "{}"


def test_version_without_lineage_is_listed(settings):
    client, name = client_of(settings), settings.mlflow.model_name
    run = client.create_run(experiment_id(client, settings.mlflow)).info
    client.log_text(run.run_id, MODEL.to_json(), "model/model.json")
    client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id)
    (found,) = tracking.versions(settings)
    assert (found.as_of, found.made_by, found.configuration) == (None, "", "")
    assert tracking.read_version(settings, "1") == MODEL
    assert tracking.read_configuration(settings, "1") == {}


def test_model_without_champion_is_an_error_with_the_next_step(settings):
    with pytest.raises(ModelError) as error:
        tracking.version_of(settings, CHAMPION)
    assert str(error.value) == (
        f"model '{settings.mlflow.model_name}' has no alias 'champion': train a version with 'recsys nightly "
        "--train', or name one of 'recsys models list' in 'recsys models promote'"
    )


def test_run_has_parameters_metrics_coefficients_and_fingerprint(settings):
    tracking.register(settings, MODEL, {"auc": 0.75}, 120, "logged")
    client = client_of(settings)
    version = client.get_model_version(settings.mlflow.model_name, "1")
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["meta_model.negatives"] == "20"
    assert run.data.params["history.days"] == "90"
    assert run.data.params["popularity.half_life_days"] == "2.0"
    assert run.data.metrics == {
        "auc": 0.75,
        "examples": 120,
        "strength.popularity": 0.25,
        "strength.own_visits": -1 / 3,
    }
    assert run.data.tags["fingerprint"] == version.tags["fingerprint"] == "logged"


def backtest_result(*versions: str, ndcg: float = 0.5) -> dict:
    estimate = {"value": ndcg, "low": 0.25, "high": 0.75}
    policies = {"meta": {"ndcg@10": estimate, "users": 9, "auc": 0.9}}
    of_versions = {f"meta@{version}": version for version in versions}
    further = {policy: {"ndcg@10": estimate} for policy in of_versions}
    return {"window": {"days": 1, "versions": of_versions}, "policies": {**policies, **further}}


def test_backtest_is_logged_as_a_run_of_its_own(settings):
    run_id = tracking.log_backtest(settings, backtest_result("3"))
    run = client_of(settings).get_run(run_id)
    assert (run.info.run_name, run.info.status) == ("backtest", "FINISHED")
    assert run.data.metrics == {"meta.ndcg_at_10": 0.5, "meta.users": 9, "meta.auc": 0.9, "meta 3.ndcg_at_10": 0.5}


@pytest.fixture
def requests(settings, monkeypatch) -> list[str]:
    """Names of the requests that log values, in the order in which MLflow's store received them."""
    store, answered = client_of(settings)._tracking_client.store, []

    def noted(name: str, answer: Callable) -> Callable:
        return lambda *args, **kwargs: (answered.append(name), answer(*args, **kwargs))[1]

    for name in ("log_batch", "log_param", "log_metric", "set_tag"):
        monkeypatch.setattr(store, name, noted(name, getattr(store, name)))
    return answered


def test_all_values_of_a_version_and_of_a_backtest_are_logged_in_one_request_each(settings, requests):
    tracking.register(settings, MODEL, {"auc": 0.75}, 120, "one request", {tracking.MADE_BY: "nightly"})
    assert requests == ["log_batch"]
    tracking.log_backtest(settings, backtest_result("1", "2", "3"))
    assert requests == ["log_batch", "log_batch"]


def test_more_values_than_one_request_holds_are_all_logged(settings, requests):
    lineage = {f"tag{number}": str(number) for number in range(101)}
    tracking.register(settings, MODEL, {}, 120, "many tags", lineage)
    assert requests == ["log_batch", "log_batch"]
    client = client_of(settings)
    run_id = client.get_model_version(settings.mlflow.model_name, "1").run_id
    assert client.get_run(run_id).data.tags.items() >= lineage.items()


def test_setting_longer_than_mlflow_stores_is_truncated(settings):
    without = tuple(f"own_visits{number}" for number in range(1_000))
    long = settings.model_copy(update={"recommenders": settings.recommenders.model_copy(update={"without": without})})
    tracking.register(long, MODEL, {}, 120, "long")
    client = client_of(settings)
    run_id = client.get_model_version(settings.mlflow.model_name, "1").run_id
    assert client.get_run(run_id).data.params["without"] == str(without)[:6_000]


def test_last_backtest_is_the_latest_of_all_the_versions(settings):
    ids = [
        tracking.log_backtest(settings, backtest_result(*versions, ndcg=ndcg))
        for versions, ndcg in ((("1", "2"), 0.1), (("1", "2", "12"), 0.2), (("1",), 0.3), (("12", "3"), 0.4))
    ]
    assert tracking.last_backtest(settings, ("2", "1")) == (ids[1], backtest_result("1", "2", "12", ndcg=0.2))
    assert tracking.last_backtest(settings, ("1",))[0] == ids[2]
    assert tracking.last_backtest(settings, ("2", "3")) is None


def test_backtest_of_another_model_is_ignored(settings, registry):
    tracking.log_backtest(registry.settings(mlflow={"model_name": "another"}), backtest_result("1", "2"))
    assert tracking.last_backtest(settings, ("1", "2")) is None


def test_all_files_of_mlflow_are_in_the_folder(settings, registry, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    tracking.register(settings, MODEL, {}, 120, "placed")
    assert not list(tmp_path.iterdir())
    assert {path.name for path in (registry.folder / "var").iterdir()} <= {"mlflow.db", "mlartifacts", ".lock"}


def test_database_whose_creation_was_killed_is_created_again(tmp_path):
    half_made = tmp_path / f"shop/var/.tmp-{'0' * 16}"
    half_made.mkdir(parents=True)
    (half_made / "mlflow.db").write_bytes(b"half a database")
    (half_made / "mlflow.db-journal").write_bytes(b"of another")
    settings = SmallShop(tmp_path / "shop").settings()
    with pytest.raises(ModelError):
        tracking.version_of(settings, CHAMPION)
    assert not half_made.exists()


ASKED = {
    "alias": lambda settings: tracking.alias(settings, CHAMPION),
    "version_of": lambda settings: tracking.version_of(settings, "7"),
    "versions": tracking.versions,
    "configuration": lambda settings: tracking.read_configuration(settings, "1"),
    "register": lambda settings: tracking.register(settings, MODEL, {}, 1, "x"),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_registry_that_answers_500_is_one_line_without_a_password(tmp_path, ask):
    with answering(500) as address:
        uri = address.replace("http://", "http://ann:secret@")
        with pytest.raises(RegistryError) as error:
            ask(SmallShop(tmp_path).settings(mlflow={"tracking_uri": uri}))
    message = str(error.value)
    assert message == (
        f"MLflow at {address}: too many 500 error responses: check mlflow.tracking_uri, the server there, and "
        "MLFLOW_TRACKING_USERNAME and _PASSWORD if it asks for them, then run the command again"
    )


@pytest.mark.parametrize("content", [b"<html>\nlog in", b"", b"\xff\xfe", b"{}"])
def test_file_of_a_version_that_is_damaged_or_another_page_is_one_line(settings, registry, content):
    version = tracking.register(settings, MODEL, {}, 1, "damaged")
    files = (registry.folder / "var/mlartifacts").rglob("model.json")
    max(files, key=lambda file: file.stat().st_mtime_ns).write_bytes(content)
    with pytest.raises(RegistryError, match=r"file model/model.json of run .* begins with '.*', must be JSON") as error:
        tracking.read_version(settings, version)
    assert "\n" not in str(error.value)


def test_registry_that_is_down_is_one_line(tmp_path):
    with impatient(), pytest.raises(RegistryError) as error:
        tracking.versions(SmallShop(tmp_path).settings(mlflow={"tracking_uri": "http://127.0.0.1:9"}))
    assert str(error.value).startswith("MLflow at http://127.0.0.1:9: [Errno 111] Connection refused: check mlflow")


def test_database_that_another_process_holds_is_one_line(settings, registry):
    tracking.versions(settings)
    database = registry.folder / "var/mlflow.db"
    hurried = settings.model_copy(update={"mlflow": MlflowSettings(tracking_uri=f"sqlite:///{database}?timeout=0.01")})
    with closing(sqlite3.connect(database)) as other:
        other.execute("begin exclusive")
        with pytest.raises(RegistryError) as error:
            tracking.versions(hurried)
    assert str(error.value).startswith(f"MLflow at {hurried.mlflow.tracking_uri}: database is locked: ")


def test_version_without_a_configuration_is_known_from_one_that_cannot_be_read(settings):
    version = tracking.register(settings, MODEL, {}, 1, "unreadable")
    uri = client_of(settings).get_model_version_download_uri(settings.mlflow.model_name, version)
    configuration = Path(urlsplit(uri).path) / "configuration.json"
    configuration.unlink()
    assert tracking.read_configuration(settings, version) == {}
    configuration.symlink_to(configuration)  # cannot be read, also by root
    with pytest.raises(RegistryError):
        tracking.read_configuration(settings, version)


def test_model_of_other_features_is_refused_with_both_lists():
    with pytest.raises(
        ModelError, match=r"trained on features popularity, own_visits; the configuration gives popularity"
    ):
        MODEL.require_features(["popularity"])
