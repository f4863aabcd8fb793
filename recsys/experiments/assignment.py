"""Tells who is in which variant: one user at a time for the service, all at once for Spark.

Variant i of an experiment has the users whose split lies in [c, c + coverage * weight), c being the weights before it:
raising the coverage moves nobody from one variant to another.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.experiments.evidence import INTERLEAVED
from recsys.experiments.hashing import BUCKETS, Column, Split, buckets, code_units
from recsys.experiments.settings import Experiment, ExperimentFile, Holdout, Layer, LayerShare, Served, Variant
from recsys.instants import to_micros
from recsys.logs.records import ASSIGNED, HOLDOUT, KILL, OVERRIDE, Assignment
from recsys.targeting import Value

NOBODY = -1
"""Stands for a variant's number where a user is in none."""
_NOBODY = 255  # NOBODY as a byte


class Assigned(NamedTuple):
    """What a user is shown, and why."""

    served: Served
    """What orders his page; of an interleaving experiment its control, for where the teams cannot be had."""
    assignment: Assignment | None = None
    """What is logged; None for a user outside of all experiments.

    Of a user who is held out, experiment is the holdout, variant `holdout` and phase 0. With the kill switch on,
    experiment and variant are empty.
    """
    experiment: Experiment | None = None
    """The experiment that he is in."""
    others: tuple[Variant, ...] = ()
    """The variants that serve something else, which his page is compared with."""
    teams: tuple[Variant, ...] = ()
    """The two variants whose pages are mixed; empty unless interleaved."""


class Assigner:
    """Assigns users by one experiment file; any number of threads may ask.

    Args:
        file: Checked, such as `load_experiments` returns it.
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
        """Return what a user is shown.

        Args:
            unit: The user; an anonymous one is empty, and in no experiment.
            attributes: What experiments are targeted by.
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
        return self._taken_in(running, codes, attributes) or self._default

    def outcomes(self) -> Iterator[Assigned]:
        """Return everything that `assign` may return, but for the bucket."""
        yield from (self._default, self._killed)
        for holdout in self._holdouts:
            yield holdout.assigned(0)
        for experiment in self._experiments:
            yield from experiment.outcomes()

    def _taken_in(
        self, running: list["_Experiment"], codes: Sequence[int], attributes: Mapping[str, Value]
    ) -> Assigned | None:
        """Let each experiment try to take a user in; he is looked up once in each layer."""
        in_layers: dict[str, int] = {}
        for experiment in running:
            if (layer := experiment.layer) is not None:
                if layer not in in_layers:
                    in_layers[layer] = self._layers[layer].bucket(codes)
                if not experiment.has_of_layer[in_layers[layer]]:
                    continue
            if experiment.targets is not None and not experiment.targets(attributes):
                continue
            bucket = experiment.split.bucket(codes)
            if (side := experiment.side_of[bucket]) != _NOBODY:
                return experiment.assigned(side, bucket)
        return None


def side_names(experiment: Experiment) -> tuple[str, ...]:
    """Return what users of the experiment are logged as being in: its variants' keys, or interleaved."""
    is_mixed = experiment.type == "interleave"
    return (INTERLEAVED,) if is_mixed else tuple(variant.key for variant in experiment.variants)


def assign_all(experiment: Experiment, units: Sequence[str] | Column, layers: Mapping[str, Layer]) -> NDArray[np.int16]:
    """Return each user's place in `side_names`, or NOBODY: by hash alone, as if all were targeted, and at any time.

    Args:
        experiment: Whatever its status.
        units: The users; an empty one is in no experiment.
        layers: Those of the experiment's file.
    """
    units = units if isinstance(units, Sequence) else units.to_pylist()
    sides = side_of_bucket(experiment)[buckets(experiment.hash_seed, units)]
    if experiment.layer is not None:
        sides[~has_of_layer(experiment.layer)[buckets(layers[experiment.layer.name].seed, units)]] = NOBODY
    sides[[unit == "" for unit in units]] = NOBODY
    return sides


def side_of_bucket(experiment: Experiment) -> NDArray[np.int16]:
    """Return for each bucket the place in `side_names`, or NOBODY; shape (10,000,)."""
    sides = np.full(BUCKETS, NOBODY, np.int16)
    start = 0.0
    for place, variant in enumerate(experiment.variants):
        is_mine = _within(start, start + experiment.coverage * variant.weight)
        sides[is_mine] = 0 if experiment.type == "interleave" else place
        start += variant.weight
    return sides


def has_of_layer(share: LayerShare | None) -> NDArray[np.bool_]:
    """Tell for each bucket of a layer whether an experiment may take its users; shape (10,000,)."""
    if share is None:
        return np.ones(BUCKETS, bool)
    return np.any([_within(*each) for each in share.ranges], axis=0)


def _within(start: float, end: float) -> NDArray[np.bool_]:
    splits = np.arange(BUCKETS) / BUCKETS
    return (start <= splits) & (splits < end)


class _Experiment:
    """A running experiment, compiled."""

    __slots__ = ("_log", "_sides", "end", "has_of_layer", "layer", "overrides", "side_of", "split", "start", "targets")

    def __init__(self, experiment: Experiment, sha: str):
        self._log = (experiment.key, experiment.phase, sha)
        self._sides = list(zip(side_names(experiment), _sides(experiment), strict=True))
        self.start, self.end = to_micros(experiment.start), to_micros(experiment.end)
        self.layer = experiment.layer.name if experiment.layer else None
        self.has_of_layer = has_of_layer(experiment.layer).tobytes()
        self.targets = experiment.targeting.holds if experiment.targeting else None
        self.split = Split(experiment.hash_seed)
        self.side_of = side_of_bucket(experiment).astype(np.uint8).tobytes()
        pages = {variant.key: _page(experiment, variant) for variant in experiment.variants}
        self.overrides = {
            unit: self._logged(pages[variant], variant, None, OVERRIDE)
            for unit, variant in experiment.overrides.items()
        }

    def assigned(self, side: int, bucket: int) -> Assigned:
        """Return what the users of a bucket are shown."""
        name, page = self._sides[side]
        return self._logged(page, name, bucket, ASSIGNED)

    def outcomes(self) -> Iterator[Assigned]:
        """Return what the users of each side, and those who override it, are shown."""
        yield from (self.assigned(side, 0) for side in range(len(self._sides)))
        yield from self.overrides.values()

    def _logged(self, page: Assigned, side: str, bucket: int | None, reason: str) -> Assigned:
        key, phase, sha = self._log
        served, _, experiment, others, teams = page
        return Assigned(served, Assignment(key, phase, side, bucket, reason, sha), experiment, others, teams)


def _sides(experiment: Experiment) -> list[Assigned]:
    """Return what each side of an experiment is shown, without what is logged."""
    if experiment.type == "interleave":
        return [Assigned(experiment.control, None, experiment, teams=experiment.variants)]
    return [_page(experiment, variant) for variant in experiment.variants]


def _page(experiment: Experiment, variant: Variant) -> Assigned:
    others = tuple(other for other in experiment.variants if other.page != variant.page)
    return Assigned(variant, None, experiment, others)


class _Holdout:
    """A holdout, compiled."""

    __slots__ = ("_holdout", "_sha", "end", "split")

    def __init__(self, holdout: Holdout, sha: str):
        self._holdout = holdout
        self._sha = sha
        self.split = Split(holdout.seed)
        self.end = np.count_nonzero(_within(0.0, holdout.share))

    def assigned(self, bucket: int) -> Assigned:
        """Return what the users of a bucket are shown."""
        assignment = Assignment(self._holdout.key, 0, HOLDOUT, bucket, HOLDOUT, self._sha)
        return Assigned(self._holdout.serve, assignment)
