"""Reads experiment files; an error lists all problems of a file at once, each with key, value and rule."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from recsys.config import strict_yaml
from recsys.config.strict_yaml import problem
from recsys.errors import ConfigurationError
from recsys.experiments.checks import experiment_problems, problems_between
from recsys.experiments.model_pins import ServedSlot
from recsys.experiments.settings import Experiment, ExperimentFile, Holdout, Layer

_Key = TypeVar("_Key")
_Model = TypeVar("_Model", bound=BaseModel)


def load_experiments(path: Path) -> ExperimentFile:
    """Read an experiment file.

    Raises:
        ConfigurationError: If the file breaks a rule; the message gives file, key, value and rule of each problem.
    """
    return strict_yaml.load(path, ExperimentFile, "conf/experiments/home.yaml", _problems_across_parts)


def check_known(
    slots: Iterable[ServedSlot], policies: Collection[str], pins: Mapping[str, str], own_version: str
) -> None:
    """Check that a snapshot can serve some slots of an experiment file.

    Args:
        slots: What is to be served.
        policies: The policies of the snapshot.
        pins: The pinned version of the model by the name of a slot.
        own_version: The version that the snapshot's policy `meta` ranks by.

    Raises:
        ConfigurationError: If the snapshot lacks a policy or a model; the message gives key, value and rule of each.
    """
    problems = [line for slot in slots for line in _missing_from(policies, slot, slot.policy(pins, own_version))]
    if problems:
        raise ConfigurationError("not in the snapshot:\n" + "\n".join(f"  {line}" for line in problems))


def _missing_from(policies: Collection[str], slot: ServedSlot, policy: str | None) -> Iterator[str]:
    if policy is None:
        rule = "must be an alias or a version of the model that the night knew: correct it, or run the night again"
        yield problem(f"{slot.name}.model", slot.model, rule)
    elif policy not in policies:
        rule = f"must be one of the snapshot's, {', '.join(sorted(policies))}, or wait for the next night"
        yield problem(f"{slot.name}.policy", policy, rule)


def _problems_across_parts(content: dict[str, Any]) -> Iterator[str]:
    """Check values against each other, over all parts of a file that are valid by themselves."""
    experiments = _valid_parts(Experiment, _enumerate_list(content, "experiments"))
    holdouts = _valid_parts(Holdout, _enumerate_list(content, "holdouts"))
    named = content.get("layers")
    layers = named if isinstance(named, dict) else {}
    for index, experiment in experiments.items():
        yield from experiment_problems(experiment, f"experiments.{index}", list(layers))
    yield from problems_between(experiments, holdouts, _valid_parts(Layer, layers.items()))


def _enumerate_list(content: dict[str, Any], key: str) -> Iterable[tuple[int, Any]]:
    values = content.get(key)
    return enumerate(values if isinstance(values, list) else ())


def _valid_parts(model: type[_Model], parts: Iterable[tuple[_Key, Any]]) -> dict[_Key, _Model]:
    valid = {}
    for key, part in parts:
        with suppress(ValidationError):
            valid[key] = model.model_validate(part)
    return valid
