"""Which policies the night scores for experiments, and which version of the model each variant is served from.

A variant may name an alias of the model, and an alias moves. The version behind it is pinned when the phase begins, so
that both sides of a comparison stay the same. What users outside of experiments are shown follows its alias from night
to night.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from recsys.experiments.settings import Experiment, ExperimentFile, Holdout, Served, Variant
from recsys.meta_model import META, policy_of

PINS = "pins.json"
"""The file with the model version of each slot: stored for the shop, and carried by each snapshot."""


class ServedSlot(NamedTuple):
    """One part of an experiment file that serves pages: a variant, a holdout or the default."""

    name: str
    """The key of its pin; the same for as long as the version must stay the same."""
    served: Served
    is_pinned: bool
    """Whether its version stays for the phase; otherwise it follows the alias."""

    @property
    def model(self) -> str | None:
        """The alias or version that it names; None where it uses tonight's model or no model."""
        return self.served.model if self.served.policy == META else None

    def policy(self, pins: Mapping[str, str], own_version: str) -> str | None:
        """Return the policy of a snapshot that serves this slot; None if its version is unknown.

        Args:
            pins: Model version by slot name.
            own_version: The version of the model that the snapshot's policy `meta` ranks by.
        """
        if self.model is None:
            return self.served.policy
        version = pins.get(self.name)
        return version and (META if version == own_version else policy_of(version))


def variant_slot(surface: str, experiment: Experiment, variant: Variant) -> ServedSlot:
    """Return the slot of a variant."""
    return ServedSlot(f"{surface}/{experiment.key}/{experiment.phase}/{variant.key}", variant, is_pinned=True)


def default_slot(surface: str, file: ExperimentFile) -> ServedSlot:
    """Return the slot of the users outside of all experiments."""
    return ServedSlot(f"{surface}/default", file.default, is_pinned=False)


def holdout_slot(surface: str, holdout: Holdout) -> ServedSlot:
    """Return the slot of a holdout."""
    return ServedSlot(f"{surface}/holdouts/{holdout.key}", holdout.serve, is_pinned=False)


def served_slots(files: Mapping[str, ExperimentFile], since: datetime, until: datetime) -> list[ServedSlot]:
    """Return the slots that experiment files, by surface, may serve in [since, until)."""
    return [slot for surface, file in files.items() for slot in _slots_of_surface(surface, file, since, until)]


def policies(slots: Iterable[ServedSlot], pins: Mapping[str, str], own_version: str) -> list[str]:
    """Return the policies that serve some slots, each once, in ascending order."""
    return sorted({policy for slot in slots if (policy := slot.policy(pins, own_version))})


def _slots_of_surface(surface: str, file: ExperimentFile, since: datetime, until: datetime) -> Iterator[ServedSlot]:
    yield default_slot(surface, file)
    yield from (holdout_slot(surface, holdout) for holdout in file.holdouts)
    for experiment in file.experiments:
        if experiment.status == "running" and experiment.start < until and since < experiment.end:
            yield from (variant_slot(surface, experiment, variant) for variant in experiment.variants)
