"""Checks the names in an experiment file against those that the shop has, also of experiments that start later."""

from collections.abc import Collection, Iterator

from recsys.config.strict_yaml import problem
from recsys.experiments.settings import ExperimentFile
from recsys.wording import did_you_mean


def unknown_policies(file: ExperimentFile, known: Collection[str]) -> Iterator[str]:
    """Return a line for each policy of the file that the shop does not have, except for stopped experiments.

    Args:
        file: The experiment file.
        known: The policies of the shop: recommenders, popularity and meta, and those of its snapshot.
    """
    served = [("default", file.default), *((f"holdouts.{n}.serve", each.serve) for n, each in enumerate(file.holdouts))]
    for index, experiment in enumerate(file.experiments):
        if experiment.status != "stopped":
            named = enumerate(experiment.variants)
            served += [(f"experiments.{index}.variants.{number}", variant) for number, variant in named]
    for at, each in served:
        if each.policy not in known:
            rule = f"must be one of {', '.join(sorted(known))}{did_you_mean(each.policy, known)}"
            yield problem(f"{at}.policy", each.policy, rule)


def unknown_attributes(file: ExperimentFile, known: Collection[str]) -> Iterator[str]:
    """Return a line for each attribute in targeting or segments that no user and no logged page has.

    Args:
        file: The experiment file.
        known: Names of attributes.
    """
    for index, experiment in enumerate(file.experiments):
        if experiment.status == "stopped":
            continue
        targeted = sorted(experiment.targeting.names) if experiment.targeting else ()
        names = [(f"experiments.{index}.targeting", name) for name in targeted]
        names += [(f"experiments.{index}.analysis.segments", name) for name in experiment.analysis.segments]
        for at, name in names:
            if name not in known:
                rule = f"no user and no logged page has this attribute, they have {', '.join(sorted(known))}"
                yield problem(at, name, f"{rule}{did_you_mean(name, known)}")
