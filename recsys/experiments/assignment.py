"""Assigns users to variants: one user at a time for the service, all users at once for Spark.

Variant i of an experiment includes the users whose bucket, divided by 10,000, lies in [c, c + coverage * weight), where
c is the sum of the weights of the variants before it: raising the coverage moves no user from one variant to another.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.experiments.hashing import BUCKETS, Column, Split, buckets, code_units
from recsys.experiments.phase_summary import INTERLEAVED
from recsys.experiments.settings import Experiment, ExperimentFile, Holdout, Layer, LayerShare, Served, Variant
from recsys.instants import to_micros
from recsys.logs.records import ASSIGNED, HOLDOUT, KILL, OVERRIDE, Assignment
from recsys.targeting import Value

NO_VARIANT = -1
"""The index of the variant for a user who is in none."""
_NO_VARIANT = 255  # NO_VARIANT as a byte


class Assigned(NamedTuple):
    """What a user is served, and why."""

    served: Served
    """How their page is ordered; in an interleaving experiment its control, the fallback if a team cannot be served."""
    assignment: Assignment | None = None
    """The assignment to log; None for a user outside of all experiments.

    For a user in a holdout, the experiment is the holdout's key, the variant `holdout` and the phase 0. With the kill
    switch on, experiment and variant are empty.
    """
    experiment: Experiment | None = None
    """The experiment that includes the user."""
    others: tuple[Variant, ...] = ()
    """The variants that serve other pages; the user's page is compared with theirs."""
    teams: tuple[Variant, ...] = ()
    """The two variants whose pages are mixed; empty unless interleaved."""


class Assigner:
    """Assigns users by one experiment file; thread-safe.

    Args:
        file: A valid file, as `load_experiments` returns it.
    """

    def __init__(self, file: ExperimentFile):
        self._default = Assigned(file.default)
        self._killed = Assigned(file.default, Assignment("", 0, "", None, KILL, file.fingerprint))
        self._kill_switch = file.kill_switch
        self._layers = {name: Split(layer.seed) for name, layer in file.layers.items()}
        self._holdouts = [_Holdout(holdout, file.fingerprint) for holdout in file.holdouts]
        self._experiments = [
            _Experiment(experiment, file.fingerprint)
            for experiment in file.experiments
            if experiment.status == "running"
        ]

    def assign(self, unit: str, attributes: Mapping[str, Value], now: int) -> Assigned:
        """Return what a user is served.

        Args:
            unit: The user's id; empty for an anonymous user, who is in no experiment.
            attributes: The attributes of the request, which targeting conditions refer to.
            now: Microseconds since 1970 UTC.
        """
        if self._kill_switch:
            return self._killed
        if not unit:
            return self._default
        running = [experiment for experiment in self._experiments if experiment.start <= now < experiment.end]
        for experiment in running:
            if unit in experiment.overrides:
                return experiment.overrides[unit]
        codes = code_units(unit)
        for holdout in self._holdouts:
            if (bucket := holdout.split.bucket(codes)) < holdout.end:
                return holdout.assigned(bucket)
        return self._first_inclusion(running, codes, attributes) or self._default

    def outcomes(self) -> Iterator[Assigned]:
        """Yield everything that `assign` may return, except for the bucket."""
        yield from (self._default, self._killed)
        for holdout in self._holdouts:
            yield holdout.assigned(0)
        for experiment in self._experiments:
            yield from experiment.outcomes()

    def _first_inclusion(
        self, running: list["_Experiment"], codes: Sequence[int], attributes: Mapping[str, Value]
    ) -> Assigned | None:
        """Return the assignment by the first experiment that includes a user; each layer is hashed at most once."""
        in_layers: dict[str, int] = {}
        for experiment in running:
            if (layer := experiment.layer) is not None:
                if layer not in in_layers:
                    in_layers[layer] = self._layers[layer].bucket(codes)
                if not experiment.layer_mask[in_layers[layer]]:
                    continue
            if experiment.targets is not None and not experiment.targets(attributes):
                continue
            bucket = experiment.split.bucket(codes)
            if (side := experiment.side_of[bucket]) != _NO_VARIANT:
                return experiment.assigned(side, bucket)
        return None


def side_names(experiment: Experiment) -> tuple[str, ...]:
    """Return the variants under which users are logged: the variants' keys, or `interleaved` alone."""
    is_interleaved = experiment.type == "interleave"
    return (INTERLEAVED,) if is_interleaved else tuple(variant.key for variant in experiment.variants)


def assign_all(experiment: Experiment, units: Sequence[str] | Column, layers: Mapping[str, Layer]) -> NDArray[np.int16]:
    """Return the index of each user in `side_names`, or NO_VARIANT; shape (n_units,).

    Only the hashes decide: targeting, status and dates are ignored.

    Args:
        experiment: An experiment of any status.
        units: The users' ids; an empty one is in no experiment.
        layers: The layers of the experiment's file, by name.
    """
    units = units if isinstance(units, Sequence) else units.to_pylist()
    sides = side_of_bucket(experiment)[buckets(experiment.hash_seed, units)]
    if experiment.layer is not None:
        sides[~layer_mask(experiment.layer)[buckets(layers[experiment.layer.name].seed, units)]] = NO_VARIANT
    sides[[unit == "" for unit in units]] = NO_VARIANT
    return sides


def side_of_bucket(experiment: Experiment) -> NDArray[np.int16]:
    """Return the index in `side_names` of each bucket, or NO_VARIANT; shape (10,000,)."""
    sides = np.full(BUCKETS, NO_VARIANT, np.int16)
    start = 0.0
    for index, variant in enumerate(experiment.variants):
        in_variant = _buckets_between(start, start + experiment.coverage * variant.weight)
        sides[in_variant] = 0 if experiment.type == "interleave" else index
        start += variant.weight
    return sides


def layer_mask(share: LayerShare | None) -> NDArray[np.bool_]:
    """Return for each bucket of a layer whether it is in an experiment's share; shape (10,000,), all True for None."""
    if share is None:
        return np.ones(BUCKETS, bool)
    return np.any([_buckets_between(*each) for each in share.ranges], axis=0)


def _buckets_between(start: float, end: float) -> NDArray[np.bool_]:
    fractions = np.arange(BUCKETS) / BUCKETS
    return (start <= fractions) & (fractions < end)


class _Experiment:
    """A running experiment, compiled."""

    __slots__ = ("_log", "_sides", "end", "layer", "layer_mask", "overrides", "side_of", "split", "start", "targets")

    def __init__(self, experiment: Experiment, sha: str):
        self._log = (experiment.key, experiment.phase, sha)
        self._sides = list(zip(side_names(experiment), _unlogged_sides(experiment), strict=True))
        self.start, self.end = to_micros(experiment.start), to_micros(experiment.end)
        self.layer = experiment.layer.name if experiment.layer else None
        self.layer_mask = layer_mask(experiment.layer).tobytes()
        self.targets = experiment.targeting.holds if experiment.targeting else None
        self.split = Split(experiment.hash_seed)
        self.side_of = side_of_bucket(experiment).astype(np.uint8).tobytes()
        unlogged = {variant.key: _unlogged_variant(experiment, variant) for variant in experiment.variants}
        self.overrides = {
            unit: self._with_assignment(unlogged[variant], variant, None, OVERRIDE)
            for unit, variant in experiment.overrides.items()
        }

    def assigned(self, side: int, bucket: int) -> Assigned:
        """Return what the users of a bucket are served."""
        name, unlogged = self._sides[side]
        return self._with_assignment(unlogged, name, bucket, ASSIGNED)

    def outcomes(self) -> Iterator[Assigned]:
        """Yield what the users of each side, and those with an override, are served."""
        yield from (self.assigned(side, 0) for side in range(len(self._sides)))
        yield from self.overrides.values()

    def _with_assignment(self, unlogged: Assigned, side: str, bucket: int | None, reason: str) -> Assigned:
        key, phase, sha = self._log
        served, _, experiment, others, teams = unlogged
        return Assigned(served, Assignment(key, phase, side, bucket, reason, sha), experiment, others, teams)


def _unlogged_sides(experiment: Experiment) -> list[Assigned]:
    """Return what users are served under each of `side_names`, without the assignment to log."""
    if experiment.type == "interleave":
        return [Assigned(experiment.control, None, experiment, teams=experiment.variants)]
    return [_unlogged_variant(experiment, variant) for variant in experiment.variants]


def _unlogged_variant(experiment: Experiment, variant: Variant) -> Assigned:
    others = tuple(other for other in experiment.variants if other.page != variant.page)
    return Assigned(variant, None, experiment, others)


class _Holdout:
    """A holdout, compiled."""

    __slots__ = ("_holdout", "_sha", "end", "split")

    def __init__(self, holdout: Holdout, sha: str):
        self._holdout = holdout
        self._sha = sha
        self.split = Split(holdout.seed)
        self.end = np.count_nonzero(_buckets_between(0.0, holdout.share))

    def assigned(self, bucket: int) -> Assigned:
        """Return what the users of a bucket are served."""
        assignment = Assignment(self._holdout.key, 0, HOLDOUT, bucket, HOLDOUT, self._sha)
        return Assigned(self._holdout.serve, assignment)
