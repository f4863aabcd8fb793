"""What may change in an experiment file while its experiments run.

A phase is one comparison: once it has begun, who is in which variant, what a variant serves and what the verdict rests
on stay what they are, and users are only added. Anything else takes a new phase, which draws its users anew.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from recsys.config.strict_yaml import problem
from recsys.errors import ConfigurationError
from recsys.experiments.assignment import has_of_layer
from recsys.experiments.settings import Experiment, ExperimentFile, LayerShare

_NOT_OF_THE_VERDICT = {"secondary", "segments", "power"}
_NEW_PHASE = "give the experiment a new phase"


def check_transition(old: ExperimentFile, new: ExperimentFile, now: datetime) -> None:
    """Refuse a file that would spoil what runs by the one in force.

    Phases may be skipped: a file that was never in force may have had one between.

    Args:
        old: The file in force.
        new: The file that is to follow it; valid by itself.
        now: A phase whose start lies before may change in few ways.

    Raises:
        ConfigurationError: Naming key, value and rule of every change that is not allowed.
    """
    found = [line for experiment in old.experiments for line in _problems(experiment, old, new, now)]
    if found:
        raise ConfigurationError(
            f"{len(found)} changes that running experiments do not allow:\n" + "\n".join(f"  {line}" for line in found)
        )


def _problems(old: Experiment, old_file: ExperimentFile, new_file: ExperimentFile, now: datetime) -> Iterator[str]:
    place = next((place for place, each in enumerate(new_file.experiments) if each.key == old.key), None)
    has_begun = old.status != "draft" and old.start <= now
    if place is None:
        if has_begun and old.status != "stopped" and now < old.end:
            yield problem(
                "experiments", f"no {old.key}", "must not be left out while it runs: write status stopped first"
            )
        return
    new, at = new_file.experiments[place], f"experiments.{place}"
    if new.phase < old.phase:
        yield problem(f"{at}.phase", new.phase, f"must not be below {old.phase}, whose users are logged")
    elif new.phase > old.phase:
        yield from _new_phase_problems(old, new, at)
    elif has_begun:
        yield from _status_problems(old, new, at, now)
        yield from _assignment_problems(old, new, at)
        yield from _layer_problems(old, new, old_file, new_file, at)
        yield from _analysis_problems(old, new, f"{at}.analysis")


def _new_phase_problems(old: Experiment, new: Experiment, at: str) -> Iterator[str]:
    """A phase that splits users as the one before would compare what the former variants have made of them."""
    if new.hash_seed == old.hash_seed:
        yield problem(f"{at}.seed", new.seed, f"must not be that of phase {old.phase}: leave it out to draw users anew")


def _status_problems(old: Experiment, new: Experiment, at: str, now: datetime) -> Iterator[str]:
    if old.status == "stopped" and new.status != "stopped":
        yield problem(f"{at}.status", new.status, f"must stay stopped in phase {old.phase}: {_NEW_PHASE}")
    if new.status == "draft":
        yield problem(f"{at}.status", new.status, "must not be draft again: write paused or stopped")
    if new.start != old.start:
        yield problem(f"{at}.start", _instant(new.start), f"must stay {_instant(old.start)}, it has passed")
    if old.end <= now and new.end > old.end:
        yield problem(f"{at}.end", _instant(new.end), f"must stay {_instant(old.end)}, it has passed: {_NEW_PHASE}")


def _assignment_problems(old: Experiment, new: Experiment, at: str) -> Iterator[str]:
    """Targeting is fixed too: a user whom another condition leaves out would be served default in the middle."""
    yield from _fixed(f"{at}.type", old.type, new.type)
    yield from _fixed(f"{at}.seed", old.hash_seed, new.hash_seed)
    yield from _fixed(f"{at}.targeting", _condition(old), _condition(new))
    if [variant.key for variant in new.variants] != [variant.key for variant in old.variants]:
        yield from _fixed(f"{at}.variants", [each.key for each in old.variants], [each.key for each in new.variants])
    else:
        for place, (before, after) in enumerate(zip(old.variants, new.variants, strict=True)):
            yield from _fixed_fields(f"{at}.variants.{place}", before.model_dump(), after.model_dump())
    if new.coverage < old.coverage:
        rule = f"must not be below {old.coverage:g}: users who are in would leave; pause it, or {_NEW_PHASE}"
        yield problem(f"{at}.coverage", new.coverage, rule)


def _layer_problems(
    old: Experiment, new: Experiment, old_file: ExperimentFile, new_file: ExperimentFile, at: str
) -> Iterator[str]:
    """Say whether a user could leave the experiment with its part of a layer."""
    before, after = old.layer, new.layer
    if before is None or after is None or before.name != after.name:
        yield from _fixed(f"{at}.layer", _share(before), _share(after))
        return
    name = before.name
    yield from _fixed(f"layers.{name}.seed", old_file.layers[name].seed, new_file.layers[name].seed)
    if (has_of_layer(before) & ~has_of_layer(after)).any():
        rule = f"must hold all of {_share(before)['ranges']}: users who are in would leave; {_NEW_PHASE}"
        yield problem(f"{at}.layer.ranges", _share(after)["ranges"], rule)


def _analysis_problems(old: Experiment, new: Experiment, at: str) -> Iterator[str]:
    """A test that is chosen by looking at its result proves nothing."""
    before = old.analysis.model_dump(exclude=_NOT_OF_THE_VERDICT)
    yield from _fixed_fields(at, before, new.analysis.model_dump(exclude=_NOT_OF_THE_VERDICT))


def _fixed_fields(at: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for field, value in old.items():
        yield from _fixed(f"{at}.{field}", value, new[field])


def _fixed(key: str, old: Any, new: Any) -> Iterator[str]:
    if new != old:
        yield problem(key, new, f"must stay {old!r} in this phase: {_NEW_PHASE}")


def _condition(experiment: Experiment) -> Any:
    return experiment.targeting.source if experiment.targeting else None


def _share(share: LayerShare | None) -> dict[str, Any]:
    return {} if share is None else {"name": share.name, "ranges": [list(each) for each in share.ranges]}


def _instant(instant: datetime) -> str:
    return f"{instant:%FT%TZ}"
