"""Versions of the meta-model and backtests in MLflow.

Every function raises RegistryError, of one line, where MLflow, its database or its files do not answer.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion as Registered
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema

from jobs.registry.connection import ABSENT, client_of, experiment_id, in_one_line, log_values, read_artifact
from recsys.config.settings import Settings
from recsys.errors import ModelError
from recsys.instants import parse_instant
from recsys.meta_model import MetaModel, meta_model_from_json
from recsys.registry.versions import CHALLENGER, CHAMPION, ModelVersion, model_configuration
from recsys.storage.places import Place

AS_OF = "as_of"
MADE_BY = "made_by"
CODE_VERSION = "code_version"
CONFIGURATION = "configuration"
_FINGERPRINT = "fingerprint"
DATA_FINGERPRINT = "data_fingerprint"
_EXAMPLES = "examples"
_MODEL = "model/model.json"
_CONFIGURATION_FILE = "model/configuration.json"
_BACKTEST = "backtest"
_BACKTEST_FILE = "backtest.json"


@in_one_line
def register(
    settings: Settings,
    model: MetaModel,
    metrics: Mapping[str, float],
    examples: int,
    fingerprint: str,
    lineage: Mapping[str, str] = MappingProxyType({}),
    files: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Log a trained model and register it; aliases are unchanged.

    Args:
        settings: The settings; logged as parameters, and those that determine the model as a file.
        model: The model; logged as JSON with its signature, and the weights of its features as metrics.
        metrics: Metrics on the training set.
        examples: Number of training examples.
        fingerprint: Digest of data, settings and code; if a version has it already, that version is returned.
        lineage: AS_OF (an instant), MADE_BY, CODE_VERSION, CONFIGURATION and DATA_FINGERPRINT (of the validated
            tables), each if known.
        files: Contents of further files of the version by name, such as its theme model.

    Returns:
        The number of the version.
    """
    client, name = client_of(settings), settings.mlflow.model_name
    known = client.search_model_versions(f"name = '{name}' and tags.{_FINGERPRINT} = '{fingerprint}'")
    if known:
        return str(known[0].version)
    tags = {_FINGERPRINT: fingerprint, **lineage}
    return _log_and_register(client, settings, model, {**metrics, _EXAMPLES: examples}, tags, files)


@in_one_line
def version_of(settings: Settings, model: str) -> str:
    """Return the version of an alias; a version is returned as it is.

    Raises:
        ModelError: If there is no such alias or version.
    """
    client, name = client_of(settings), settings.mlflow.model_name
    try:
        if model.isdecimal():
            return str(client.get_model_version(name, model).version)
        return str(client.get_model_version_by_alias(name, model).version)
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        if model == CHAMPION:
            raise ModelError(
                f"model '{name}' has no alias '{CHAMPION}': train a version with 'recsys nightly --train', or name one "
                "of 'recsys models list' in 'recsys models promote'"
            ) from error
        kind = "version" if model.isdecimal() else "alias"
        raise ModelError(
            f"model '{name}' has no {kind} '{model}': name one that 'recsys models list' shows, or '{CHAMPION}'"
        ) from error


@in_one_line
def alias(settings: Settings, name: str) -> str | None:
    """Return the version of an alias; None if the alias is not set."""
    found = client_of(settings).get_registered_model(settings.mlflow.model_name).aliases
    return str(found[name]) if name in found else None


@in_one_line
def point(settings: Settings, alias: str, version: str) -> None:
    """Set an alias to a version; a version that becomes the champion is no longer the challenger."""
    client, name = client_of(settings), settings.mlflow.model_name
    client.set_registered_model_alias(name, alias, version)
    challenger = client.get_registered_model(name).aliases.get(CHALLENGER)
    if alias == CHAMPION and str(challenger) == version:
        client.delete_registered_model_alias(name, CHALLENGER)


@in_one_line
def versions(settings: Settings) -> list[ModelVersion]:
    """Return the metadata of all versions, newest first."""
    client, name = client_of(settings), settings.mlflow.model_name
    aliases = client.get_registered_model(name).aliases
    found = client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"])
    return [_to_model_version(client, each, aliases) for each in found]


@in_one_line
def described(settings: Settings, model: str) -> ModelVersion:
    """Return the metadata of a version, or of the version of an alias.

    Raises:
        ModelError: If there is no such alias or version.
    """
    client, name = client_of(settings), settings.mlflow.model_name
    found = client.get_model_version(name, version_of(settings, model))
    return _to_model_version(client, found, client.get_registered_model(name).aliases)


@in_one_line
def read_version(settings: Settings, version: str) -> MetaModel:
    """Return the model of a version."""
    return read_artifact(settings, _run_of(settings, version), _MODEL, meta_model_from_json)


@in_one_line
def read_configuration(settings: Settings, version: str) -> dict[str, Any]:
    """Return the configuration that a version was trained with; empty if it has none."""
    run_id = _run_of(settings, version)
    if not any(file.path == _CONFIGURATION_FILE for file in client_of(settings).list_artifacts(run_id, "model")):
        return {}  # registered before versions had this file
    return read_artifact(settings, run_id, _CONFIGURATION_FILE, json.loads)


@in_one_line
def log_backtest(settings: Settings, result: dict[str, Any], report: Place | None = None) -> str:
    """Log the metrics and the report of a backtest as an MLflow run, and return the run's id.

    A backtest without repeat purchases is not tagged with its versions, so it is no evidence for a promotion: the
    service ranks all sales.
    """
    client, window = client_of(settings), result["window"]
    versions = {} if window.get("new_only") else window.get("versions", {})
    tags = {
        "model_name": settings.mlflow.model_name,
        **{_tag_of_version(version): "1" for version in versions.values()},
    }
    run_id = client.create_run(experiment_id(client, settings.mlflow), run_name=_BACKTEST, tags=tags).info.run_id
    measured = {**result["policies"], **({"oracle": result["oracle"]} if "oracle" in result else {})}
    numbers = {}
    for policy, metrics in measured.items():
        for metric, value in metrics.items():
            name = f"{policy}.{metric.replace('@', '_at_')}".replace("@", " ")
            numbers[name] = value["value"] if isinstance(value, dict) else value
    log_values(client, run_id, numbers)
    client.log_dict(run_id, result, _BACKTEST_FILE)
    if report:
        client.log_text(run_id, report.read_text("utf-8"), report.name)
    client.set_terminated(run_id)
    return str(run_id)


@in_one_line
def last_backtest(settings: Settings, versions: Iterable[str]) -> tuple[str, dict[str, Any]] | None:
    """Return the run id and the result of the last backtest of all these versions; None without one."""
    client, kind = client_of(settings), f"tags.mlflow.runName = '{_BACKTEST}' and attributes.status = 'FINISHED'"
    of_model = f"tags.model_name = '{settings.mlflow.model_name}'"
    query = " and ".join([kind, of_model, *(f"tags.{_tag_of_version(version)} = '1'" for version in versions)])
    runs = client.search_runs(
        [experiment_id(client, settings.mlflow)], query, max_results=1, order_by=["attributes.start_time DESC"]
    )
    if not runs:
        return None
    run_id = str(runs[0].info.run_id)
    return run_id, read_artifact(settings, run_id, _BACKTEST_FILE, json.loads)


def _tag_of_version(version: str) -> str:
    return f"version_{version}"


def _run_of(settings: Settings, version: str) -> str:
    return str(client_of(settings).get_model_version(settings.mlflow.model_name, version).run_id)


def _to_model_version(client: MlflowClient, found: Registered, aliases: Mapping[str, Any]) -> ModelVersion:
    tags, metrics = found.tags, client.get_run(str(found.run_id)).data.metrics
    return ModelVersion(
        version=str(found.version),
        aliases=tuple(sorted(name for name, version in aliases.items() if str(version) == str(found.version))),
        created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        as_of=parse_instant(tags[AS_OF]) if AS_OF in tags else None,
        made_by=tags.get(MADE_BY, ""),
        fingerprint=tags.get(_FINGERPRINT, ""),
        data_fingerprint=tags.get(DATA_FINGERPRINT, ""),
        configuration=tags.get(CONFIGURATION, ""),
        code_version=tags.get(CODE_VERSION, ""),
        metrics={name: value for name, value in metrics.items() if not name.startswith("strength.")},
    )


def _log_and_register(
    client: MlflowClient,
    settings: Settings,
    model: MetaModel,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    files: Mapping[str, str],
) -> str:
    run_id = client.create_run(experiment_id(client, settings.mlflow), run_name="train_meta_model").info.run_id
    chosen = {
        "meta_model": settings.meta_model,
        "history": settings.history,
        **{name: getattr(settings.recommenders, name) for name in type(settings.recommenders).model_fields},
    }
    parameters = {
        f"{name}.{key}".rstrip("."): setting
        for name, value in chosen.items()
        for key, setting in (value.model_dump() if hasattr(value, "model_dump") else {"": value}).items()
    }
    coefficients_by_feature = {f"strength.{name}": value for name, value in model.coefficients_by_feature.items()}
    log_values(client, run_id, {**metrics, **coefficients_by_feature}, parameters, tags)
    client.log_text(run_id, model.to_json(), _MODEL)
    client.log_text(run_id, json.dumps(model_configuration(settings), indent=2), _CONFIGURATION_FILE)
    client.log_text(run_id, _mlmodel_file(model, run_id), "model/MLmodel")
    for file, text in files.items():
        client.log_text(run_id, text, f"model/{file}")
    client.set_terminated(run_id)
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    return str(client.create_model_version(settings.mlflow.model_name, source, run_id, tags=dict(tags)).version)


def _mlmodel_file(model: MetaModel, run_id: str) -> str:
    """Return the content of MLflow's file MLmodel: the features in order, and the output."""
    signature = ModelSignature(
        Schema([*(ColSpec("float", name) for name in model.features), ColSpec("boolean", "bought_before")]),
        Schema([ColSpec("double", "probability")]),
    )
    return Model(artifact_path="model", run_id=run_id, signature=signature).to_yaml()
