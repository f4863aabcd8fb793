"""Decides when a new version of the meta-model is trained."""

from jobs.registry import tracking
from jobs.registry.promote_model import NIGHTLY
from recsys.config.settings import Settings
from recsys.instants import DAY
from recsys.registry.versions import model_configuration
from recsys.settings import digest


def training_is_due(settings: Settings, as_of: int) -> bool:
    """Return whether no nightly version of this configuration is younger than `meta_model.retrain_days` at an instant.

    A version of the same instant does not count: this night trained it itself before it was interrupted.
    """
    configuration = digest(model_configuration(settings))
    oldest = as_of - settings.meta_model.retrain_days * DAY
    return not any(
        each.as_of is not None and oldest < each.as_of < as_of
        for each in tracking.versions(settings)
        if each.made_by == NIGHTLY and each.configuration == configuration
    )
