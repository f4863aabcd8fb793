"""The meta-model: features of a user and a sale → purchase probability."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from pydantic import TypeAdapter

from recsys.meta_model.base import (
    META,
    PURCHASES_PER_FEATURE,
    Cells,
    Features,
    MetaModel,
    MetaModelSettings,
    is_meta,
    policy_of,
    probability,
    version_in,
)
from recsys.meta_model.basket import Basket
from recsys.meta_model.boosted import BoostedModel
from recsys.meta_model.calibration import Calibration
from recsys.meta_model.logistic import LogisticModel, Weights

__all__ = [
    "META",
    "PURCHASES_PER_FEATURE",
    "Basket",
    "BoostedModel",
    "Calibration",
    "Cells",
    "Features",
    "LogisticModel",
    "MetaModel",
    "MetaModelSettings",
    "Weights",
    "is_meta",
    "meta_model_from_json",
    "meta_models_from_json",
    "meta_models_to_json",
    "policy_of",
    "probability",
    "version_in",
]

_MODEL = TypeAdapter(LogisticModel | BoostedModel)
_MODELS = TypeAdapter(dict[str, LogisticModel | BoostedModel])


def meta_model_from_json(text: str) -> MetaModel:
    """Return the model that `MetaModel.to_json` wrote.

    Raises:
        ValueError: If the text is no such model.
    """
    return _MODEL.validate_json(text)


def meta_models_to_json(models: Mapping[str, MetaModel]) -> str:
    """Return models by policy as JSON."""
    return json.dumps({policy: asdict(model) for policy, model in models.items()})


def meta_models_from_json(text: str | bytes) -> dict[str, MetaModel]:
    """Return the models by policy that `meta_models_to_json` wrote.

    Raises:
        ValueError: If the text holds no such models.
    """
    return dict(_MODELS.validate_json(text))
