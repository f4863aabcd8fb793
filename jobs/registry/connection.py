"""MLflow: the client of a shop's registry, and its errors in one line; nothing else of the jobs opens one."""

import atexit
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache, wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, Concatenate, ParamSpec, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from requests import RequestException
from sqlalchemy.exc import SQLAlchemyError

from recsys.config.settings import MlflowSettings, Settings
from recsys.errors import RegistryError
from recsys.storage.local import held, put_in_place, scratch_folder

_DATABASE = "mlflow.db"
_LONGEST_CAUSE = 200
_PASSWORD = re.compile(r"//[^/@\s]+@")
ABSENT = frozenset(ErrorCode.Name(code) for code in (RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE))
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


def in_one_line(ask: Callable[Concatenate[Settings, P], T]) -> Callable[Concatenate[Settings, P], T]:
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


def read_artifact(settings: Settings, run_id: str, file: str, parse: Callable[[str], T]) -> T:
    """Return the content of a file of a run; one that was cut off, or is another server's page, is no such file."""
    text = Path(client_of(settings).download_artifacts(run_id, file)).read_text("utf-8", "replace")
    try:
        return parse(text)
    except ValueError as error:
        message = (
            f"{_place(settings)}: file {file} of run {run_id} begins with {text[:40]!r}, must be JSON that was written "
            "by 'recsys': restore it, or promote another version"
        )
        raise RegistryError(_PASSWORD.sub("//", message)) from error


def log_values(
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


def experiment_id(client: MlflowClient, settings: MlflowSettings) -> str:
    """Return the id of the configured experiment, created if absent."""
    experiment = client.get_experiment_by_name(settings.experiment)
    return experiment.experiment_id if experiment else client.create_experiment(settings.experiment)


def client_of(settings: Settings) -> MlflowClient:
    """Return the client of a shop's registry, in which the meta-model is registered."""
    elsewhere = None if isinstance(settings.place, Path) else settings.folder
    return _connect(settings.mlflow, settings.own_disk.resolve(), elsewhere)


@lru_cache(maxsize=1)
def _connect(settings: MlflowSettings, folder: Path, elsewhere: str | None) -> MlflowClient:
    """Return the client of a server, or of a database in a folder of this machine; the shop's may be elsewhere."""
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if elsewhere and settings.tracking_uri is None:
        _log.warning(
            f"MLflow's database is {folder / _DATABASE}, on this machine alone, while 'folder' is {elsewhere}: set "
            "mlflow.tracking_uri to a server, or run all nights on this machine"
        )
    client = MlflowClient(settings.tracking_uri or _sqlite_uri(_create_database(folder)))
    if settings.tracking_uri is None and client.get_experiment_by_name(settings.experiment) is None:
        client.create_experiment(settings.experiment, artifact_location=(folder / "mlartifacts").as_uri())
    try:
        client.get_registered_model(settings.model_name)
    except MlflowException as error:
        if error.error_code not in ABSENT:
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
    return f"MLflow at {uri}" if uri else f"MLflow's database {settings.own_disk / _DATABASE}"


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
