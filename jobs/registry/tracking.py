"""Versions and backtests in MLflow; no other module of the jobs calls it.

Every function raises RegistryError, of one line, where MLflow, its database or its files do not answer.
"""

import atexit
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache, wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, Concatenate, ParamSpec, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.entities.model_registry import ModelVersion as Registered
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.types import ColSpec, Schema
from requests import RequestException
from sqlalchemy.exc import SQLAlchemyError

from recsys.config.settings import MlflowSettings, Settings
from recsys.errors import ModelError, RegistryError
from recsys.instants import parse_instant
from recsys.meta_model import MetaModel, meta_model_from_json
from recsys.registry.versions import CHALLENGER, CHAMPION, ModelVersion, model_configuration
from recsys.storage.local import held, put_in_place, scratch_folder

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
_DATABASE = "mlflow.db"
_LONGEST_CAUSE = 200
_PASSWORD = re.compile(r"//[^/@\s]+@")
_ABSENT = frozenset(ErrorCode.Name(code) for code in (RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE))
"""Codes of MLflow for an alias or a version that is not registered."""
_PATIENCE = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Defaults of MLflow's variables: its own retry for four minutes before they say that a server is down."""

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def _in_one_line(ask: Callable[Concatenate[Settings, P], T]) -> Callable[Concatenate[Settings, P], T]:
    """Turn the errors of MLflow and of what it stands on into a RegistryError of one line; the trace is logged."""

    @wraps(ask)
    def asked(settings: Settings, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return ask(settings, *args, **kwargs)
        except (MlflowException, SQLAlchemyError, RequestException, OSError) as error:
            _log.debug("MLflow failed", exc_info=True)
            message = f"{_place(settings)}: {_cause(error)}: {_next_step(settings)}"
            raise RegistryError(_PASSWORD.sub("//", message)) from error

    return asked


@_in_one_line
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
    client, name = _client(settings), settings.mlflow.model_name
    known = client.search_model_versions(f"name = '{name}' and tags.{_FINGERPRINT} = '{fingerprint}'")
    if known:
        return str(known[0].version)
    tags = {_FINGERPRINT: fingerprint, **lineage}
    return _log_and_register(client, settings, model, {**metrics, _EXAMPLES: examples}, tags, files)


@_in_one_line
def version_of(settings: Settings, model: str) -> str:
    """Return the version of an alias; a version is returned as it is.

    Raises:
        ModelError: If there is no such alias or version.
    """
    client, name = _client(settings), settings.mlflow.model_name
    try:
        if model.isdecimal():
            return str(client.get_model_version(name, model).version)
        return str(client.get_model_version_by_alias(name, model).version)
    except MlflowException as error:
        if error.error_code not in _ABSENT:
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


@_in_one_line
def alias(settings: Settings, name: str) -> str | None:
    """Return the version of an alias; None if the alias is not set."""
    found = _client(settings).get_registered_model(settings.mlflow.model_name).aliases
    return str(found[name]) if name in found else None


@_in_one_line
def point(settings: Settings, alias: str, version: str) -> None:
    """Set an alias to a version; a version that becomes the champion is no longer the challenger."""
    client, name = _client(settings), settings.mlflow.model_name
    client.set_registered_model_alias(name, alias, version)
    challenger = client.get_registered_model(name).aliases.get(CHALLENGER)
    if alias == CHAMPION and str(challenger) == version:
        client.delete_registered_model_alias(name, CHALLENGER)


@_in_one_line
def versions(settings: Settings) -> list[ModelVersion]:
    """Return the metadata of all versions, newest first."""
    client, name = _client(settings), settings.mlflow.model_name
    aliases = client.get_registered_model(name).aliases
    found = client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"])
    return [_to_model_version(client, each, aliases) for each in found]


@_in_one_line
def described(settings: Settings, model: str) -> ModelVersion:
    """Return the metadata of a version, or of the version of an alias.

    Raises:
        ModelError: If there is no such alias or version.
    """
    client, name = _client(settings), settings.mlflow.model_name
    found = client.get_model_version(name, version_of(settings, model))
    return _to_model_version(client, found, client.get_registered_model(name).aliases)


@_in_one_line
def read_version(settings: Settings, version: str) -> MetaModel:
    """Return the model of a version."""
    return _read_artifact(settings, _run_of(settings, version), _MODEL, meta_model_from_json)


@_in_one_line
def read_configuration(settings: Settings, version: str) -> dict[str, Any]:
    """Return the configuration that a version was trained with; empty if it has none."""
    run_id = _run_of(settings, version)
    if not any(file.path == _CONFIGURATION_FILE for file in _client(settings).list_artifacts(run_id, "model")):
        return {}  # registered before versions had this file
    return _read_artifact(settings, run_id, _CONFIGURATION_FILE, json.loads)


@_in_one_line
def log_backtest(settings: Settings, result: dict[str, Any], report: Path | None = None) -> str:
    """Log the metrics and the report of a backtest as an MLflow run, and return the run's id.

    A backtest without repeat purchases is not tagged with its versions, so it is no evidence for a promotion: the
    service ranks all sales.
    """
    client, window = _client(settings), result["window"]
    versions = {} if window.get("new_only") else window.get("versions", {})
    tags = {
        "model_name": settings.mlflow.model_name,
        **{_tag_of_version(version): "1" for version in versions.values()},
    }
    run_id = client.create_run(_experiment_id(client, settings.mlflow), run_name=_BACKTEST, tags=tags).info.run_id
    measured = {**result["policies"], **({"oracle": result["oracle"]} if "oracle" in result else {})}
    numbers = {}
    for policy, metrics in measured.items():
        for metric, value in metrics.items():
            name = f"{policy}.{metric.replace('@', '_at_')}".replace("@", " ")
            numbers[name] = value["value"] if isinstance(value, dict) else value
    _log_values(client, run_id, numbers)
    client.log_dict(run_id, result, _BACKTEST_FILE)
    if report:
        client.log_artifact(run_id, str(report))
    client.set_terminated(run_id)
    return str(run_id)


@_in_one_line
def last_backtest(settings: Settings, versions: Iterable[str]) -> tuple[str, dict[str, Any]] | None:
    """Return the run id and the result of the last backtest of all these versions; None without one."""
    client, kind = _client(settings), f"tags.mlflow.runName = '{_BACKTEST}' and attributes.status = 'FINISHED'"
    of_model = f"tags.model_name = '{settings.mlflow.model_name}'"
    query = " and ".join([kind, of_model, *(f"tags.{_tag_of_version(version)} = '1'" for version in versions)])
    runs = client.search_runs(
        [_experiment_id(client, settings.mlflow)], query, max_results=1, order_by=["attributes.start_time DESC"]
    )
    if not runs:
        return None
    run_id = str(runs[0].info.run_id)
    return run_id, _read_artifact(settings, run_id, _BACKTEST_FILE, json.loads)


def _tag_of_version(version: str) -> str:
    return f"version_{version}"


def _run_of(settings: Settings, version: str) -> str:
    return str(_client(settings).get_model_version(settings.mlflow.model_name, version).run_id)


def _read_artifact(settings: Settings, run_id: str, file: str, parse: Callable[[str], T]) -> T:
    """Return the content of a file of a run; one that was cut off, or is another server's page, is no such file."""
    text = Path(_client(settings).download_artifacts(run_id, file)).read_text("utf-8", "replace")
    try:
        return parse(text)
    except ValueError as error:
        message = (
            f"{_place(settings)}: file {file} of run {run_id} begins with {text[:40]!r}, must be JSON that was written "
            "by 'recsys': restore it, or promote another version"
        )
        raise RegistryError(_PASSWORD.sub("//", message)) from error


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
    run_id = client.create_run(_experiment_id(client, settings.mlflow), run_name="train_meta_model").info.run_id
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
    _log_values(client, run_id, {**metrics, **coefficients_by_feature}, parameters, tags)
    client.log_text(run_id, model.to_json(), _MODEL)
    client.log_text(run_id, json.dumps(model_configuration(settings), indent=2), _CONFIGURATION_FILE)
    client.log_text(run_id, _mlmodel_file(model, run_id), "model/MLmodel")
    for file, text in files.items():
        client.log_text(run_id, text, f"model/{file}")
    client.set_terminated(run_id)
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    return str(client.create_model_version(settings.mlflow.model_name, source, run_id, tags=dict(tags)).version)


def _log_values(
    client: MlflowClient,
    run_id: str,
    metrics: Mapping[str, float],
    parameters: Mapping[str, Any] = MappingProxyType({}),
    tags: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Log values in one call; MLflow's client splits them into requests of the allowed size and truncates long
    values."""
    now = round(1000 * datetime.now(UTC).timestamp())
    client.log_batch(
        run_id,
        [Metric(name, value, now, step=0) for name, value in metrics.items()],
        [Param(name, str(value)) for name, value in parameters.items()],
        [RunTag(name, value) for name, value in tags.items()],
    )


def _mlmodel_file(model: MetaModel, run_id: str) -> str:
    """Return the content of MLflow's file MLmodel: the features in order, and the output."""
    signature = ModelSignature(
        Schema([*(ColSpec("float", name) for name in model.features), ColSpec("boolean", "bought_before")]),
        Schema([ColSpec("double", "probability")]),
    )
    return Model(artifact_path="model", run_id=run_id, signature=signature).to_yaml()


def _experiment_id(client: MlflowClient, settings: MlflowSettings) -> str:
    """Return the id of the configured experiment, created if absent."""
    experiment = client.get_experiment_by_name(settings.experiment)
    return experiment.experiment_id if experiment else client.create_experiment(settings.experiment)


def _client(settings: Settings) -> MlflowClient:
    folder = Path(settings.folder).resolve()
    return _connect(settings.mlflow, folder)


@lru_cache(maxsize=1)
def _connect(settings: MlflowSettings, folder: Path) -> MlflowClient:
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    client = MlflowClient(settings.tracking_uri or _sqlite_uri(_create_database(folder)))
    if settings.tracking_uri is None and client.get_experiment_by_name(settings.experiment) is None:
        client.create_experiment(settings.experiment, artifact_location=(folder / "mlartifacts").as_uri())
    try:
        client.get_registered_model(settings.model_name)
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        client.create_registered_model(settings.model_name, description="P(purchase) over recommender scores.")
    return client


def _create_database(folder: Path) -> Path:
    """Return MLflow's SQLite file, created atomically if absent: a partly created one could not be completed later."""
    database = folder / _DATABASE
    with held(folder):
        if not database.exists():
            with scratch_folder(folder) as scratch:
                MlflowClient(_sqlite_uri(scratch / database.name)).search_experiments()
                put_in_place(scratch / database.name, database)
    return database


def _sqlite_uri(database: Path) -> str:
    if "?" in str(database):  # it would end the name of the database in the URI: name the folder by a link
        links = tempfile.mkdtemp(prefix="recsys-")
        atexit.register(shutil.rmtree, links, ignore_errors=True)
        link = Path(links) / "folder"
        link.symlink_to(database.parent)
        database = link / database.name
    return f"sqlite:///{database}"


def _place(settings: Settings) -> str:
    """Return where MLflow's data are."""
    uri = settings.mlflow.tracking_uri
    return f"MLflow at {uri}" if uri else f"MLflow's database {Path(settings.folder) / _DATABASE}"


def _cause(error: BaseException) -> str:
    """Return the first line of the error that started a chain of errors: the others repeat it around an SQL text or
    an address."""
    while inner := getattr(error, "reason", None) or error.__cause__ or error.__context__:
        if not isinstance(inner, BaseException):
            break
        error = inner
    first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return first if len(first) <= _LONGEST_CAUSE else f"{first[:_LONGEST_CAUSE]} …"


def _next_step(settings: Settings) -> str:
    if settings.mlflow.tracking_uri is None:
        return "wait for the process that holds it, free the disk or restore the file, then run the command again"
    return (
        "check mlflow.tracking_uri, the server there, and MLFLOW_TRACKING_USERNAME and _PASSWORD if it asks for them, "
        "then run the command again"
    )
