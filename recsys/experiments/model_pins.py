"""Which policies the night scores for experiments, and which version of the model each variant is served from.

A variant names an alias of the model, which moves; its version is pinned when the phase begins, so that both sides of a
comparison stay what they are. What users outside of experiments are shown follows its alias from night to night.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from recsys.experiments.settings import Experiment, ExperimentFile, Holdout, Served, Variant
from recsys.meta_model import META, policy_of

PINS = "pins.json"
"""The file of the versions by place: kept for the shop, and carried by each snapshot."""


class Place(NamedTuple):
    """Something of an experiment file that is served."""

    name: str
    """Of the pin: the same as long as the version must stay."""
    served: Served
    is_pinned: bool

    @property
    def model(self) -> str | None:
        """The alias or version that it names; None where it is served from tonight's model or from none."""
        return self.served.model if self.served.policy == META else None

    def policy(self, pins: Mapping[str, str], own_version: str) -> str | None:
        """Return the policy of a snapshot that serves it; None where its version is not known.

        Args:
            pins: Versions by place.
            own_version: The version of the model that the snapshot's policy `meta` ranks by.
        """
        if self.model is None:
            return self.served.policy
        version = pins.get(self.name)
        return version and (META if version == own_version else policy_of(version))


def variant_place(surface: str, experiment: Experiment, variant: Variant) -> Place:
    """Return the place of a variant."""
    return Place(f"{surface}/{experiment.key}/{experiment.phase}/{variant.key}", variant, is_pinned=True)


def default_place(surface: str, file: ExperimentFile) -> Place:
    """Return the place of what users outside of all experiments are served."""
    return Place(f"{surface}/default", file.default, is_pinned=False)


def holdout_place(surface: str, holdout: Holdout) -> Place:
    """Return the place of a holdout."""
    return Place(f"{surface}/holdouts/{holdout.key}", holdout.serve, is_pinned=False)


def places(files: Mapping[str, ExperimentFile], since: datetime, until: datetime) -> list[Place]:
    """Return what experiment files, by surface, may serve in [since, until)."""
    return [place for surface, file in files.items() for place in _places(surface, file, since, until)]


def policies(found: Iterable[Place], pins: Mapping[str, str], own_version: str) -> list[str]:
    """Return the policies that serve some places, each once, in ascending order."""
    return sorted({policy for place in found if (policy := place.policy(pins, own_version))})


def _places(surface: str, file: ExperimentFile, since: datetime, until: datetime) -> Iterator[Place]:
    yield default_place(surface, file)
    yield from (holdout_place(surface, holdout) for holdout in file.holdouts)
    for experiment in file.experiments:
        if experiment.status == "running" and experiment.start < until and since < experiment.end:
            yield from (variant_place(surface, experiment, variant) for variant in experiment.variants)
