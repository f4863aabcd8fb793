"""Which users an experiment takes in, and which condition keeps a user out: by the same assignment as the service."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from recsys.experiments.assignment import NO_VARIANT, Assigner, layer_mask, side_of_bucket
from recsys.experiments.hashing import BUCKETS, Split, code_units
from recsys.experiments.settings import Experiment, ExperimentFile
from recsys.instants import from_micros, to_micros
from recsys.logs.records import ASSIGNED
from recsys.targeting import Value

_DRAWN = 50_000
"""Number of user ids that a share is counted over: at 5 % it errs by 0.2 points with a probability of 5 %."""


class Exclusion(NamedTuple):
    """Why an experiment or a holdout does not serve a user."""

    key: str
    """Of the experiment or holdout; empty if the reason is not one of them."""
    reason: str
    """Completes the sentence "is not in it: ..."."""


def share_taken_in(file: ExperimentFile, key: str, attributes: Sequence[Mapping[str, Value]]) -> float:
    """Return the share of users whom an experiment takes in while it runs.

    Holdouts, the experiments before it in the file, its layer, targeting and coverage are taken into account.

    Args:
        file: The experiment file. The experiment may be of any status; of the others, those count that are running at
            its start.
        key: The experiment's key.
        attributes: Attributes of users, each user's as likely as the others'; one empty mapping if none are known.
    """
    experiment = file.experiment(key)
    running = [each.model_copy(update={"status": "running"}) if each.key == key else each for each in file.experiments]
    assigner = Assigner(file.model_copy(update={"kill_switch": False, "experiments": tuple(running)}))
    start = to_micros(experiment.start)
    drawn = (
        assigner.assign(f"drawn-{number}", attributes[number % len(attributes)], start).assignment
        for number in range(max(_DRAWN, len(attributes)))
    )
    taken = sum(log is not None and (log.experiment, log.reason) == (key, ASSIGNED) for log in drawn)
    return taken / max(_DRAWN, len(attributes))


def exclusions(file: ExperimentFile, unit: str, attributes: Mapping[str, Value], now: int) -> Iterator[Exclusion]:
    """Yield why a user is in none of the holdouts and experiments before the one that serves them, in their order.

    Args:
        file: The experiment file.
        unit: The user's id; empty for an anonymous user.
        attributes: The attributes of the request.
        now: Microseconds since 1970 UTC.
    """
    if file.kill_switch:
        yield Exclusion("", "kill_switch is true, which ends all experiments")
        return
    if not unit:
        yield Exclusion("", "the user id is empty: an anonymous visitor cannot be recognised")
        return
    log = Assigner(file).assign(unit, attributes, now).assignment
    serving = log.experiment if log else None
    codes = code_units(unit)
    for holdout in file.holdouts:
        if holdout.key == serving:
            return
        bucket = Split(holdout.seed).bucket(codes)
        yield Exclusion(
            holdout.key,
            f"bucket {bucket:,} of the user is not below share {holdout.share:g}, {round(holdout.share * BUCKETS):,}",
        )
    for experiment in file.experiments:
        if experiment.key == serving:
            return
        yield Exclusion(experiment.key, _reason(file, experiment, codes, attributes, from_micros(now)))


def _reason(
    file: ExperimentFile, experiment: Experiment, codes: Sequence[int], attributes: Mapping[str, Value], now: datetime
) -> str:
    """Return the first condition that a user does not meet, in the order of `Assigner`."""
    if experiment.status != "running":
        return f"its status is {experiment.status}, not running"
    if now < experiment.start:
        return f"it starts at {experiment.start:%Y-%m-%d %H:%M} UTC"
    if now >= experiment.end:
        return f"it ended at {experiment.end:%Y-%m-%d %H:%M} UTC"
    layer = experiment.layer
    if layer is not None:
        bucket = Split(file.layers[layer.name].seed).bucket(codes)
        if not layer_mask(layer)[bucket]:
            ranges = ", ".join(f"[{start:g}, {end:g})" for start, end in layer.ranges)
            return f"the user is at {bucket / BUCKETS:.4f} of layer {layer.name}, not in {ranges}"
    if experiment.targeting is not None and not experiment.targeting.holds(attributes):
        given = (
            ", ".join(f"{name}={value}" for name, value in attributes.items()) or "none; give --attribute NAME=VALUE"
        )
        return f"targeting {dict(experiment.targeting.source)} does not hold for the attributes: {given}"
    bucket = Split(experiment.hash_seed).bucket(codes)
    if side_of_bucket(experiment)[bucket] == NO_VARIANT:
        return f"bucket {bucket:,} of the user is outside of coverage {experiment.coverage:g}"
    return "an experiment or holdout before it in the file has the user"
