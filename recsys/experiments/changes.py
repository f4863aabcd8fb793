"""A preview of an experiment file: what it would change for a sample of users once it is in force."""

from collections.abc import Mapping
from typing import NamedTuple

from recsys.experiments.assignment import Assigned, Assigner
from recsys.experiments.settings import ExperimentFile, Served, Variant
from recsys.logs.records import ASSIGNED
from recsys.targeting import Value

_Attributes = Mapping[str, Value]


class ExperimentChanges(NamedTuple):
    """Numbers of users of the sample whom one experiment analyses, by the old and the new file."""

    experiment: str
    before: int
    """By the old file."""
    after: int
    """By the new file."""
    entered: int
    """By the new file only."""
    left: int
    """By the old file only."""
    moved: int
    """By both files, but in different variants."""


class Changes(NamedTuple):
    """The differences between two experiment files for a sample of users."""

    users: int
    """Size of the sample."""
    served_otherwise: int
    """Users whose page would be ordered differently, within or outside of experiments."""
    experiments: tuple[ExperimentChanges, ...]
    """The experiments of both files, those of the old one first."""


def changes(old: ExperimentFile, new: ExperimentFile, users: Mapping[str, _Attributes], now: int) -> Changes:
    """Assign a sample of users by both files, and count the differences.

    Args:
        old: The file in force.
        new: The file that might replace it.
        users: Attributes by user, as their requests would have them.
        now: Microseconds since 1970 UTC.
    """
    before, after = _assign_users(old, users, now), _assign_users(new, users, now)
    keys = dict.fromkeys(experiment.key for file in (old, new) for experiment in file.experiments)
    return Changes(
        users=len(users),
        served_otherwise=sum(_served_pages(before[user]) != _served_pages(after[user]) for user in users),
        experiments=tuple(
            _count_changes(key, _analysed_users(before, key), _analysed_users(after, key)) for key in keys
        ),
    )


def _assign_users(file: ExperimentFile, users: Mapping[str, _Attributes], now: int) -> dict[str, Assigned]:
    assigner = Assigner(file)
    return {user: assigner.assign(user, attributes, now) for user, attributes in users.items()}


def _analysed_users(assigned: Mapping[str, Assigned], experiment: str) -> dict[str, str]:
    """Return the variant of each user whom an experiment analyses."""
    logged = ((user, each.assignment) for user, each in assigned.items())
    return {
        user: log.variant for user, log in logged if log and log.experiment == experiment and log.reason == ASSIGNED
    }


def _count_changes(key: str, before: Mapping[str, str], after: Mapping[str, str]) -> ExperimentChanges:
    return ExperimentChanges(
        experiment=key,
        before=len(before),
        after=len(after),
        entered=len(after.keys() - before.keys()),
        left=len(before.keys() - after.keys()),
        moved=sum(before[user] != after[user] for user in before.keys() & after.keys()),
    )


def _served_pages(assigned: Assigned) -> list[Served]:
    served = assigned.teams or (assigned.served,)
    return [each.page if isinstance(each, Variant) else each for each in served]
