"""Copies of what nights read of MLflow, in `<folder>/models/copies`, for while MLflow does not answer."""

import logging
from datetime import UTC, datetime

from jobs.registry import tracking
from jobs.registry.promote_model import restore_champion
from recsys.config.settings import Settings
from recsys.errors import RegistryError
from recsys.meta_model import MetaModel, meta_model_from_json
from recsys.registry.versions import CHAMPION
from recsys.storage.places import Place, put

_log = logging.getLogger(__name__)


def champion_version(settings: Settings) -> str:
    """Return the version of the champion, of the last night if MLflow does not answer; empty if there is none.

    An alias that was deleted in MLflow is set again first.

    Raises:
        RegistryError: If MLflow does not answer and no earlier night had a champion.
    """
    path = _folder(settings) / CHAMPION
    try:
        restore_champion(settings, datetime.now(UTC))
        version = tracking.alias(settings, CHAMPION) or ""
    except RegistryError as error:
        version = path.read_text() if path.exists() else ""
        if not version:
            raise
        _log.warning(f"    the champion of the last night, version {version}, ranks: {error}")
        return version
    put(path, version)
    return version


def read_version(settings: Settings, version: str) -> MetaModel:
    """Return the model of a version; its copy if MLflow does not answer.

    Raises:
        RegistryError: If MLflow does not answer and there is no copy.
    """
    path = _folder(settings) / f"{settings.mlflow.model_name}-{version}.json"
    try:
        model = tracking.read_version(settings, version)
    except RegistryError as error:
        if not path.exists():
            raise
        _log.warning(f"    the copy of version {version} in {path} is used: {error}")
        return meta_model_from_json(path.read_text())
    put(path, model.to_json())
    return model


def _folder(settings: Settings) -> Place:
    return settings.place / "models" / "copies"
