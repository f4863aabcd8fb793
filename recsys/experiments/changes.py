"""What another experiment file would change for some users, before it is in force."""

from collections.abc import Mapping
from typing import NamedTuple

from recsys.experiments.assignment import Assigned, Assigner
from recsys.experiments.settings import ExperimentFile, Served, Variant
from recsys.logs.records import ASSIGNED
from recsys.targeting import Value

_Attributes = Mapping[str, Value]


class ExperimentChanges(NamedTuple):
    """How many users an experiment would analyse, and how many are others than before."""

    experiment: str
    before: int
    after: int
    entered: int
    left: int
    moved: int
    """In both, but in another variant."""


class Changes(NamedTuple):
    """What would change."""

    users: int
    """Of the sample."""
    served_otherwise: int
    """Users whose page would be made in another way, by an experiment or not."""
    experiments: tuple[ExperimentChanges, ...]
    """Those of both files, the old one's first."""


def changes(old: ExperimentFile, new: ExperimentFile, users: Mapping[str, _Attributes], now: int) -> Changes:
    """Assign a sample of users by both files.

    Args:
        old: The file in force.
        new: The file that might follow it.
        users: Attributes by user, as their requests would give them.
        now: Microseconds since 1970 UTC.
    """
    before, after = _assigned(old, users, now), _assigned(new, users, now)
    keys = dict.fromkeys(experiment.key for file in (old, new) for experiment in file.experiments)
    return Changes(
        users=len(users),
        served_otherwise=sum(_pages(before[user]) != _pages(after[user]) for user in users),
        experiments=tuple(_of_experiment(key, _sides(before, key), _sides(after, key)) for key in keys),
    )


def _assigned(file: ExperimentFile, users: Mapping[str, _Attributes], now: int) -> dict[str, Assigned]:
    assigner = Assigner(file)
    return {user: assigner.assign(user, attributes, now) for user, attributes in users.items()}


def _sides(assigned: Mapping[str, Assigned], experiment: str) -> dict[str, str]:
    """Return the variants of an experiment's analysed users."""
    logged = ((user, each.assignment) for user, each in assigned.items())
    return {
        user: log.variant for user, log in logged if log and log.experiment == experiment and log.reason == ASSIGNED
    }


def _of_experiment(key: str, before: Mapping[str, str], after: Mapping[str, str]) -> ExperimentChanges:
    return ExperimentChanges(
        experiment=key,
        before=len(before),
        after=len(after),
        entered=len(after.keys() - before.keys()),
        left=len(before.keys() - after.keys()),
        moved=sum(before[user] != after[user] for user in before.keys() & after.keys()),
    )


def _pages(assigned: Assigned) -> list[Served]:
    pages = assigned.teams or (assigned.served,)
    return [page.page if isinstance(page, Variant) else page for page in pages]
