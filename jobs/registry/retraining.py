"""Decides when a new version of the meta-model is trained."""

import logging

from jobs.registry import tracking
from jobs.registry.promote_model import NIGHTLY
from recsys.config.settings import Settings
from recsys.errors import RegistryError
from recsys.instants import DAY
from recsys.registry.versions import model_configuration
from recsys.settings import digest

_log = logging.getLogger(__name__)


def training_is_due(settings: Settings, as_of: int) -> bool:
    """Return whether no nightly version of this configuration is younger than `meta_model.retrain_days` at an instant.

    A version of the same instant does not count: this night trained it itself before it was interrupted. Nothing is due
    while MLflow does not answer: no version could be registered.
    """
    configuration = digest(model_configuration(settings))
    oldest = as_of - settings.meta_model.retrain_days * DAY
    try:
        versions = tracking.versions(settings)
    except RegistryError as error:
        _log.warning(f"    no new version of the model is trained: {error}")
        return False
    return not any(
        each.as_of is not None and oldest < each.as_of < as_of
        for each in versions
        if each.made_by == NIGHTLY and each.configuration == configuration
    )
