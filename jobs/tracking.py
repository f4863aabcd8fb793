"""The only place in the jobs that talks to MLflow."""

import logging
import os
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from recsys.config import MlflowSettings, Settings
from recsys.errors import ModelError
from recsys.meta_model import MetaModel
from recsys.pipeline import sources
from recsys.snapshot_store import locked

CHAMPION = "champion"
_FINGERPRINT = "fingerprint"
_MODEL = "model/model.json"


def register(
    settings: Settings,
    model: MetaModel,
    metrics: dict[str, float],
    examples: int,
    fingerprint: str,
    is_champion: bool = True,
    files: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Log a trained model and register it.

    Args:
        settings: Logged as parameters.
        model: Logged as JSON, with a table of its coefficients.
        metrics: On the training set.
        examples: How many there were.
        fingerprint: Of data, settings and code; a version that has it already is taken again.
        is_champion: Whether nights without training take this version from now on.
        files: Further texts of the version by name, such as its theme model.

    Returns:
        The version's number.
    """
    client, name = _client(settings), settings.mlflow.model_name
    known = client.search_model_versions(f"name = '{name}' and tags.{_FINGERPRINT} = '{fingerprint}'")
    version = known[0].version if known else _log(client, settings, model, metrics, examples, fingerprint, files)
    if is_champion:
        client.set_registered_model_alias(name, CHAMPION, version)
    return str(version)


def champion(settings: Settings) -> tuple[MetaModel, str]:
    """Return the champion and its version.

    Raises:
        ModelError: If no version is the champion.
    """
    version = version_of(settings, CHAMPION)
    return read_version(settings, version), version


def version_of(settings: Settings, model: str) -> str:
    """Return the version that an alias stands for; a version stands for itself.

    Raises:
        ModelError: If there is no such alias or version.
    """
    client, name = _client(settings), settings.mlflow.model_name
    try:
        if model.isdecimal():
            return str(client.get_model_version(name, model).version)
        return str(client.get_model_version_by_alias(name, model).version)
    except MlflowException as error:
        if model == CHAMPION:
            raise ModelError(f"model '{name}' has no alias '{CHAMPION}': train one with 'recsys nightly'") from error
        kind = "version" if model.isdecimal() else "alias"
        raise ModelError(
            f"model '{name}' has no {kind} '{model}': name one that MLflow lists, or 'champion', the newest night's"
        ) from error


def read_version(settings: Settings, version: str) -> MetaModel:
    """Return a version of the registered model."""
    client = _client(settings)
    found = client.get_model_version(settings.mlflow.model_name, version)
    path = client.download_artifacts(str(found.run_id), _MODEL)
    return MetaModel.from_json(Path(path).read_text())


def log_backtest(settings: Settings, result: dict[str, Any]) -> None:
    """Log the metrics of a backtest as a run of its own."""
    client = _client(settings)
    run = client.create_run(_experiment(client, settings.mlflow), run_name="backtest")
    for policy, metrics in result["policies"].items():
        for metric, value in metrics.items():
            number = value["value"] if isinstance(value, dict) else value
            client.log_metric(run.info.run_id, f"{policy}.{metric.replace('@', '_at_')}", number)
    client.log_dict(run.info.run_id, result, "backtest.json")
    client.set_terminated(run.info.run_id)


def _log(
    client: MlflowClient,
    settings: Settings,
    model: MetaModel,
    metrics: dict[str, float],
    examples: int,
    fingerprint: str,
    files: Mapping[str, str],
) -> str:
    run_id = client.create_run(_experiment(client, settings.mlflow), run_name="train_meta_model").info.run_id
    chosen = {
        "meta_model": settings.meta_model,
        "history": settings.history,
        **{name: getattr(settings.recommenders, name) for name in type(settings.recommenders).model_fields},
    }
    for name, value in chosen.items():
        for key, setting in (value.model_dump() if hasattr(value, "model_dump") else {"": value}).items():
            client.log_param(run_id, f"{name}.{key}".rstrip("."), setting)
    for name, metric in {**metrics, "examples": examples}.items():
        client.log_metric(run_id, name, metric)
    for name, coefficient in zip(model.features, model.coefficients, strict=True):
        client.log_metric(run_id, f"coefficient.{name}", coefficient)
    client.set_tag(run_id, _FINGERPRINT, fingerprint)
    client.set_tag(run_id, "data_fingerprint", sources.fingerprint(settings.source, Path(settings.folder)))
    client.log_text(run_id, model.to_json(), _MODEL)
    for file, text in files.items():
        client.log_text(run_id, text, f"model/{file}")
    client.set_terminated(run_id)
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    return client.create_model_version(
        settings.mlflow.model_name, source, run_id, tags={_FINGERPRINT: fingerprint}
    ).version


def _experiment(client: MlflowClient, settings: MlflowSettings) -> str:
    experiment = client.get_experiment_by_name(settings.experiment)
    return experiment.experiment_id if experiment else client.create_experiment(settings.experiment)


def _client(settings: Settings) -> MlflowClient:
    folder = Path(settings.folder).resolve()
    return _connect(settings.mlflow, folder)


@lru_cache(maxsize=1)
def _connect(settings: MlflowSettings, folder: Path) -> MlflowClient:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    client = MlflowClient(settings.tracking_uri or _sqlite(_database(folder)))
    if settings.tracking_uri is None and client.get_experiment_by_name(settings.experiment) is None:
        client.create_experiment(settings.experiment, artifact_location=(folder / "mlartifacts").as_uri())
    try:
        client.get_registered_model(settings.model_name)
    except MlflowException:
        client.create_registered_model(settings.model_name, description="P(purchase) over recommender scores.")
    return client


def _database(folder: Path) -> Path:
    """Return MLflow's database; a new one is made aside: one whose making is killed could never be completed."""
    database, aside = folder / "mlflow.db", folder / ".tmp-mlflow"
    with locked(folder):
        if not database.exists():
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            MlflowClient(_sqlite(aside / database.name)).search_experiments()
            (aside / database.name).rename(database)
            shutil.rmtree(aside)
    return database


def _sqlite(database: Path) -> str:
    return f"sqlite:///{database}"
