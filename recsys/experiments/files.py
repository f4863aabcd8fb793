"""Reads experiment files: all that is wrong with one is said at once, each with key, value and rule."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from recsys.config import strict_yaml
from recsys.config.strict_yaml import problem
from recsys.errors import ConfigurationError
from recsys.experiments.checks import experiment_problems, problems_together
from recsys.experiments.model_pins import Place
from recsys.experiments.settings import Experiment, ExperimentFile, Holdout, Layer

_Key = TypeVar("_Key")
_Model = TypeVar("_Model", bound=BaseModel)


def load_experiments(path: Path) -> ExperimentFile:
    """Read an experiment file.

    Raises:
        ConfigurationError: Naming file, key, value and rule of everything that is wrong.
    """
    return strict_yaml.load(path, ExperimentFile, "conf/experiments/home.yaml", _problems)


def check_known(places: Iterable[Place], policies: Collection[str], pins: Mapping[str, str], own_version: str) -> None:
    """Refuse what a snapshot cannot serve.

    Args:
        places: What is to be served.
        policies: Those of the snapshot.
        pins: The pinned version of the model by the name of a place.
        own_version: The version that the snapshot's policy `meta` ranks by.

    Raises:
        ConfigurationError: Naming key, value and rule of every policy and model that the snapshot lacks.
    """
    found = [line for place in places for line in _lacking(place, policies, place.policy(pins, own_version))]
    if found:
        raise ConfigurationError("not in the snapshot:\n" + "\n".join(f"  {line}" for line in found))


def _lacking(place: Place, policies: Collection[str], policy: str | None) -> Iterator[str]:
    if policy is None:
        rule = "must be an alias or a version of the model that the night knew: correct it, or run the night again"
        yield problem(f"{place.name}.model", place.model, rule)
    elif policy not in policies:
        rule = f"must be one of the snapshot's, {', '.join(sorted(policies))}, or wait for the next night"
        yield problem(f"{place.name}.policy", policy, rule)


def _problems(content: dict[str, Any]) -> Iterator[str]:
    """Check what no value tells alone, over all parts of a file that are good by themselves."""
    experiments = _good(Experiment, _listed(content, "experiments"))
    holdouts = _good(Holdout, _listed(content, "holdouts"))
    named = content.get("layers")
    layers = named if isinstance(named, dict) else {}
    for index, experiment in experiments.items():
        yield from experiment_problems(experiment, f"experiments.{index}", list(layers))
    yield from problems_together(experiments, holdouts, _good(Layer, layers.items()))


def _listed(content: dict[str, Any], key: str) -> Iterable[tuple[int, Any]]:
    listed = content.get(key)
    return enumerate(listed if isinstance(listed, list) else ())


def _good(model: type[_Model], parts: Iterable[tuple[_Key, Any]]) -> dict[_Key, _Model]:
    good = {}
    for key, part in parts:
        with suppress(ValidationError):
            good[key] = model.model_validate(part)
    return good
