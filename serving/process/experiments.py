"""The experiments of the service: which user's page is served from which side, by the files in force."""

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from recsys.errors import ConfigurationError, SnapshotError
from recsys.experiments.accepted import IN_FORCE, AcceptedFiles
from recsys.experiments.assignment import Assigned, Assigner
from recsys.experiments.files import check_known
from recsys.experiments.model_pins import PINS, served_slots, slots_outside_experiments, variant_slot
from recsys.experiments.settings import ExperimentFile
from recsys.instants import from_micros
from recsys.logs.records import ASSIGNED, FALLBACK, Assignment
from recsys.snapshot.format import Snapshot
from serving.answers.pages import Interleaved, OtherSide, PageRequest
from serving.answers.top_sales import MODEL, TopSales
from serving.clocks import Clock
from serving.telemetry.troubles import Troubles

EXPERIMENTS = "experiments"

_log = logging.getLogger(__name__)


class _Surface(NamedTuple):
    """The file of a surface, compiled."""

    assigner: Assigner
    policies: Mapping[int, str]
    """Of the snapshot, by the identity of what a side serves; none where the snapshot lacks it."""


class Experiments:
    """Assigns by some files, to the policies of one snapshot; any number of threads may ask."""

    def __init__(self, files: Mapping[str, ExperimentFile], snapshot: Snapshot):
        self.files = files  # kept: what is served is known by its identity
        self._surfaces = {
            surface: _Surface(Assigner(file), dict(_policies(surface, file, snapshot)))
            for surface, file in files.items()
        }

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of the files by surface."""
        return {surface: file.fingerprint for surface, file in self.files.items()}

    def request(self, request: PageRequest, now: int) -> PageRequest:
        """Return the request for what the user is to be shown; the same one where no file is for its surface."""
        surface = self._surfaces.get(request.surface)
        if surface is None:
            return request
        assigned = surface.assigner.assign(request.user_id, request.attributes, now)
        served, assignment = assigned.served, assigned.assignment
        policy = surface.policies.get(id(served))
        interleaved = _interleaved(assigned, surface)
        if policy is None or bool(assigned.teams) != (interleaved is not None):
            return request._replace(assignment=_not_served(assignment))
        return request._replace(
            policy=policy,
            follows_rules=served.rules,
            exploration=served.exploration,
            interleaved=interleaved,
            other_sides=_other_sides(assigned, surface),
            assignment=assignment,
        )


def _interleaved(assigned: Assigned, surface: _Surface) -> Interleaved | None:
    if not assigned.teams:
        return None
    first, second = assigned.teams
    policy = surface.policies.get(id(second))
    return Interleaved(policy, (first.key, second.key)) if policy else None


def _other_sides(assigned: Assigned, surface: _Surface) -> list[OtherSide]:
    """Return what the other variants serve; a page that is drawn is compared with none."""
    if assigned.served.exploration:
        return []
    compared = [(surface.policies.get(id(other)), other) for other in assigned.others if not other.exploration]
    return [OtherSide(policy, other.rules) for policy, other in compared if policy]


class ExperimentsWatcher:
    """Takes up changed experiment files, and what a new snapshot means for them.

    Args:
        source: The folder that people write to; None for a shop without experiments.
        folder: The shop's.
        troubles: Told of what is refused.
        clock: What time it is.
    """

    def __init__(self, source: Path | None, folder: Path, troubles: Troubles, clock: Clock):
        self._files = AcceptedFiles(source, folder / IN_FORCE) if source is not None else None
        self._troubles = troubles
        self._clock = clock
        self._state: object = None
        self._compiled_for: TopSales | None = None

    def poll(self, top_sales: TopSales | None) -> None:
        """Look once for changed files, and put them in force."""
        if self._files is None or top_sales is None:
            return
        if top_sales is not self._compiled_for or self._files.state() != self._state:
            self.apply(top_sales)

    def apply(self, top_sales: TopSales) -> None:
        """Put files in force that can be served from a snapshot, and compile them for it."""
        if self._files is None:
            return
        snapshot, now = top_sales.snapshot, from_micros(self._clock())
        problems = self._files.take_over(now, lambda surface, file: check(surface, file, snapshot, now))
        self._state, self._compiled_for = self._files.state(), top_sales
        files = self._in_force(problems)
        for surface, file in files.items():
            try:
                check(surface, file, snapshot, now)
            except ConfigurationError as error:
                problems.append(f"in force, but not served: {error}")
        top_sales.experiments = Experiments(files, snapshot)
        if problems:
            self._troubles.note(EXPERIMENTS, "; ".join(problems))
        else:
            self._troubles.clear(EXPERIMENTS)
        _log.info("experiments in force: %s", top_sales.experiments.fingerprints or "none")

    def _in_force(self, problems: list[str]) -> dict[str, ExperimentFile]:
        assert self._files is not None
        try:
            return self._files.in_force()
        except ConfigurationError as error:  # a copy is damaged: pages are served all the same
            problems.append(f"no experiment runs: {error}")
            return {}


def check(surface: str, file: ExperimentFile, snapshot: Snapshot, now: datetime) -> None:
    """Check that a snapshot can serve what a file asks for until the snapshot's end.

    Raises:
        ConfigurationError: Naming everything that it lacks.
    """
    try:
        until = max(snapshot.horizon_end, now)
        check_known(served_slots({surface: file}, now, until), snapshot.all_policies, *_versions(snapshot))
    except ConfigurationError as error:
        wait = "'recsys nightly' scores what running experiments need, and says what it cannot"
        raise ConfigurationError(f"{surface}: {error}\n  ({snapshot.name}; {wait})") from None


def _policies(surface: str, file: ExperimentFile, snapshot: Snapshot) -> Iterator[tuple[int, str]]:
    pins, own_version = _versions(snapshot)
    of_variants = (variant_slot(surface, each, variant) for each in file.experiments for variant in each.variants)
    for place in (*slots_outside_experiments(surface, file), *of_variants):
        policy = place.policy(pins, own_version)
        if policy in snapshot.all_policies:
            yield id(place.served), policy


def _versions(snapshot: Snapshot) -> tuple[Mapping[str, str], str]:
    """Return the version of each pinned place, and that of policy `meta`."""
    own_version = snapshot.versions.get(MODEL, "")
    try:
        return json.loads(snapshot.file(PINS).read_bytes()), own_version
    except SnapshotError:  # one that was made without experiments
        return {}, own_version


def _not_served(assigned: Assignment | None) -> Assignment | None:
    """Return an assignment that says that its side could not be served."""
    return assigned._replace(reason=FALLBACK) if assigned is not None and assigned.reason == ASSIGNED else assigned
