"""The experiments in force, compiled for one snapshot: which variant each user's page is served from."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from recsys.errors import ConfigurationError, SnapshotError
from recsys.experiments.assignment import Assigned, Assigner
from recsys.experiments.files import check_known
from recsys.experiments.model_pins import PINS, ServedSlot, default_slot, holdout_slot, served_slots, variant_slot
from recsys.experiments.settings import ExperimentFile, ExplorationSettings, Variant
from recsys.logs.records import ASSIGNED, FALLBACK, HOLDOUT, Assignment
from recsys.snapshot.format import Snapshot
from serving.answers.pages import Interleaved, OtherSide, PageRequest

_Side = tuple[str, int, str] | None
"""Key of what is served: experiment or holdout, phase and variant; None outside all experiments and holdouts."""


class _Serving(NamedTuple):
    """The fields of a request that a variant sets."""

    policy: str
    is_live: bool | None
    follows_rules: bool
    exploration: ExplorationSettings | None
    interleaved: Interleaved | None
    other_sides: tuple[OtherSide, ...]


class _Surface(NamedTuple):
    """The compiled experiment file of a surface."""

    assigner: Assigner
    sides: Mapping[_Side, _Serving]
    """What is served to each side; sides whose policy the snapshot lacks are missing."""


class RunningExperiments:
    """Assigns users to variants that one snapshot serves; immutable, safe for concurrent use by threads.

    Args:
        files: Validated experiment files, by surface.
        snapshot: The snapshot whose policies serve the variants.
    """

    def __init__(self, files: Mapping[str, ExperimentFile], snapshot: Snapshot):
        self.fingerprints = {surface: file.fingerprint for surface, file in files.items()}
        """The fingerprint of each file, by surface."""
        self.experiments = [experiment for file in files.values() for experiment in file.experiments]
        """The experiments of all surfaces."""
        self._surfaces = {surface: _compile_surface(surface, file, snapshot) for surface, file in files.items()}

    def assigned_request(self, request: PageRequest, now: int) -> PageRequest:
        """Return the request with the user's assignment applied; unchanged where its surface has no experiment file."""
        surface = self._surfaces.get(request.surface)
        if surface is None:
            return request
        assignment = surface.assigner.assign(request.user_id, request.attributes, now).assignment
        serving = surface.sides.get(_side(assignment))
        if serving is None:
            return request._replace(assignment=_not_served(assignment))
        return request._replace(**serving._asdict(), assignment=assignment)


def check_served(surface: str, file: ExperimentFile, snapshot: Snapshot, now: datetime) -> None:
    """Check that a snapshot can serve everything that a file needs until the end of the snapshot's horizon.

    Raises:
        ConfigurationError: Naming everything that the snapshot lacks.
    """
    try:
        until = max(snapshot.horizon_end, now)
        check_known(served_slots({surface: file}, now, until), snapshot.all_policies, *_versions(snapshot))
    except ConfigurationError as error:
        wait = "'recsys nightly' scores what running experiments need, and reports what it cannot score"
        raise ConfigurationError(f"{surface}: {error}\n  ({snapshot.name}; {wait})") from None


def _compile_surface(surface: str, file: ExperimentFile, snapshot: Snapshot) -> _Surface:
    pins, own_version = _versions(snapshot)

    def policy_of(slot: ServedSlot) -> str | None:
        policy = slot.policy(pins, own_version)
        return policy if policy in snapshot.all_policies else None

    def serving(assigned: Assigned) -> _Serving | None:
        served, _, experiment, others, teams = assigned

        def policy_of_variant(variant: Variant) -> str | None:
            assert experiment is not None  # only an experiment has other variants
            return policy_of(variant_slot(surface, experiment, variant))

        policy = policy_of(_slot_of(surface, file, assigned))
        if policy is None:
            return None
        interleaved = None
        if teams:
            first, second = teams
            second_policy = policy_of_variant(second)
            if second_policy is None:
                return None
            interleaved = Interleaved(second_policy, (first.key, second.key), second.is_live)
        compared = [] if served.exploration else [other for other in others if not other.exploration]
        sides = [(policy_of_variant(other), other.rules, other.is_live) for other in compared]
        return _Serving(
            policy,
            served.is_live,
            served.rules,
            served.exploration,
            interleaved,
            tuple(OtherSide(other, rules, is_live) for other, rules, is_live in sides if other is not None),
        )

    assigner = Assigner(file)
    found = {_side(assigned.assignment): serving(assigned) for assigned in assigner.outcomes()}
    return _Surface(assigner, {side: served for side, served in found.items() if served is not None})


def _side(assignment: Assignment | None) -> _Side:
    return assignment and assignment[:3]


def _slot_of(surface: str, file: ExperimentFile, assigned: Assigned) -> ServedSlot:
    """Return the slot (variant, holdout or default) of an experiment file from which an assigned user is served."""
    served, assignment, experiment, _, _ = assigned
    if experiment is not None:
        assert isinstance(served, Variant)
        return variant_slot(surface, experiment, served)
    if assignment is not None and assignment.reason == HOLDOUT:
        holdout = next(each for each in file.holdouts if each.key == assignment.experiment)
        return holdout_slot(surface, holdout)
    return default_slot(surface, file)


def _versions(snapshot: Snapshot) -> tuple[Mapping[str, str], str]:
    """Return the pinned model version of each slot, and the version of policy `meta`."""
    try:
        return json.loads(snapshot.file(PINS).read_bytes()), snapshot.model_version
    except SnapshotError:  # a snapshot that was made without experiments
        return {}, snapshot.model_version


def _not_served(assigned: Assignment | None) -> Assignment | None:
    """Return the assignment with reason `fallback`, since its variant could not be served."""
    return assigned._replace(reason=FALLBACK) if assigned is not None and assigned.reason == ASSIGNED else assigned
