"""Checks what changes in an experiment file while its experiments run.

A phase is one comparison. Once it has begun, the variant of each user, the policy of each variant and the primary
metrics stay the same, and users may only be added. Any other change needs a new phase, which assigns all users anew.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from recsys.config.strict_yaml import problem
from recsys.errors import ConfigurationError
from recsys.experiments.assignment import layer_mask
from recsys.experiments.settings import Experiment, ExperimentFile, LayerShare
from recsys.wording import plural

_NOT_OF_THE_VERDICT = {"secondary", "segments", "power"}
_NEW_PHASE = "give the experiment a new phase"


def check_transition(old: ExperimentFile, new: ExperimentFile, now: datetime) -> None:
    """Check that a new file does not invalidate the comparisons that run by the file in force.

    Phase numbers may be skipped: the phases between may have been in files that never came into force.

    Args:
        old: The file in force.
        new: The file that is to replace it; valid by itself.
        now: The current time; a phase that started before it may change in few ways.

    Raises:
        ConfigurationError: If a change is not allowed; the message gives key, value and rule of each.
    """
    problems = [line for experiment in old.experiments for line in _experiment_problems(experiment, old, new, now)]
    if problems:
        raise ConfigurationError(
            f"{plural(len(problems), 'change')} not allowed while experiments run:\n"
            + "\n".join(f"  {line}" for line in problems)
        )


def _experiment_problems(
    old: Experiment, old_file: ExperimentFile, new_file: ExperimentFile, now: datetime
) -> Iterator[str]:
    index = next((index for index, each in enumerate(new_file.experiments) if each.key == old.key), None)
    has_begun = old.status != "draft" and old.start <= now
    if index is None:
        if has_begun and old.status != "stopped" and now < old.end:
            yield problem(
                "experiments", f"no {old.key}", "must not be left out while it runs: write status stopped first"
            )
        return
    new, at = new_file.experiments[index], f"experiments.{index}"
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
    """A new phase needs a new seed: with the old one, the effects of the old variants would carry over."""
    if new.hash_seed == old.hash_seed:
        rule = f"must not be that of phase {old.phase}: leave it out to assign users anew"
        yield problem(f"{at}.seed", new.seed, rule)


def _status_problems(old: Experiment, new: Experiment, at: str, now: datetime) -> Iterator[str]:
    if old.status == "stopped" and new.status != "stopped":
        yield problem(f"{at}.status", new.status, f"must stay stopped in phase {old.phase}: {_NEW_PHASE}")
    if new.status == "draft":
        yield problem(f"{at}.status", new.status, "must not return to draft: write paused or stopped")
    if new.start != old.start:
        rule = f"must stay {_format_instant(old.start)}, it has passed"
        yield problem(f"{at}.start", _format_instant(new.start), rule)
    if old.end <= now and new.end > old.end:
        rule = f"must stay {_format_instant(old.end)}, it has passed: {_NEW_PHASE}"
        yield problem(f"{at}.end", _format_instant(new.end), rule)


def _assignment_problems(old: Experiment, new: Experiment, at: str) -> Iterator[str]:
    """Targeting must not change either: a user whom a new condition excludes would get the default in mid-phase."""
    yield from _require_same(f"{at}.type", old.type, new.type)
    yield from _require_same(f"{at}.seed", old.hash_seed, new.hash_seed)
    yield from _require_same(f"{at}.targeting", _targeting_source(old), _targeting_source(new))
    old_keys, new_keys = ([variant.key for variant in each.variants] for each in (old, new))
    if new_keys != old_keys:
        yield from _require_same(f"{at}.variants", old_keys, new_keys)
    else:
        for index, (before, after) in enumerate(zip(old.variants, new.variants, strict=True)):
            yield from _require_same_fields(f"{at}.variants.{index}", before.model_dump(), after.model_dump())
    if new.coverage < old.coverage:
        rule = f"must not be below {old.coverage:g}: users in the experiment would leave it; pause it, or {_NEW_PHASE}"
        yield problem(f"{at}.coverage", new.coverage, rule)


def _layer_problems(
    old: Experiment, new: Experiment, old_file: ExperimentFile, new_file: ExperimentFile, at: str
) -> Iterator[str]:
    """Check that the layer's seed stays, and that the experiment's ranges only grow."""
    before, after = old.layer, new.layer
    if before is None or after is None or before.name != after.name:
        yield from _require_same(f"{at}.layer", _layer_share(before), _layer_share(after))
        return
    name = before.name
    yield from _require_same(f"layers.{name}.seed", old_file.layers[name].seed, new_file.layers[name].seed)
    if (layer_mask(before) & ~layer_mask(after)).any():
        ranges = _layer_share(before)["ranges"]
        rule = f"must contain all of {ranges}: users in the experiment would leave it; {_NEW_PHASE}"
        yield problem(f"{at}.layer.ranges", _layer_share(after)["ranges"], rule)


def _analysis_problems(old: Experiment, new: Experiment, at: str) -> Iterator[str]:
    """A test that is chosen after seeing its result has no known error rate."""
    before = old.analysis.model_dump(exclude=_NOT_OF_THE_VERDICT)
    yield from _require_same_fields(at, before, new.analysis.model_dump(exclude=_NOT_OF_THE_VERDICT))


def _require_same_fields(at: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for field, value in old.items():
        yield from _require_same(f"{at}.{field}", value, new[field])


def _require_same(key: str, old: Any, new: Any) -> Iterator[str]:
    if new != old:
        yield problem(key, new, f"must stay {old!r} in this phase: {_NEW_PHASE}")


def _targeting_source(experiment: Experiment) -> Any:
    return experiment.targeting.source if experiment.targeting else None


def _layer_share(share: LayerShare | None) -> dict[str, Any]:
    return {} if share is None else {"name": share.name, "ranges": [list(each) for each in share.ranges]}


def _format_instant(instant: datetime) -> str:
    return f"{instant:%FT%TZ}"
