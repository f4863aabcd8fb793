"""Checks of experiments across several values, each of which is valid by itself."""

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from itertools import combinations, pairwise
from typing import Any, TypeVar

from recsys.config.strict_yaml import problem
from recsys.experiments.assignment import layer_mask
from recsys.experiments.phase_summary import INTERLEAVED
from recsys.experiments.settings import Experiment, Holdout, Layer, RatioSettings, Variant

_Value = TypeVar("_Value", bound=Hashable)

_ROUNDING = 1e-9


def experiment_problems(experiment: Experiment, at: str, layers: Collection[str]) -> Iterator[str]:
    """Return the problems of one experiment, a line each.

    Args:
        experiment: The experiment.
        at: Its key in the file, such as experiments.0.
        layers: The names of the file's layers.
    """
    if experiment.end <= experiment.start:
        yield problem(f"{at}.end", f"{experiment.end:%FT%TZ}", f"must be after start, {experiment.start:%FT%TZ}")
    yield from _layer_problems(experiment, at, layers)
    yield from _variant_problems(experiment.variants, at)
    yield from _type_problems(experiment, at)
    keys = [variant.key for variant in experiment.variants]
    for user, key in experiment.overrides.items():
        if key not in keys:
            yield problem(f"{at}.overrides.{user}", key, f"must be a variant: {', '.join(keys)}")
    yield from _analysis_problems(experiment, f"{at}.analysis")


def problems_between(
    experiments: Mapping[int, Experiment], holdouts: Mapping[int, Holdout], layers: Mapping[str, Layer]
) -> Iterator[str]:
    """Return the conflicts between the parts of a file, a line each.

    A draft occupies its layer ranges like a running experiment, so that it can be started later; a stopped experiment
    occupies none.

    Args:
        experiments: The valid experiments, by index in the file.
        holdouts: The valid holdouts, by index in the file.
        layers: The valid layers, by name.
    """
    keys = {f"holdouts.{index}.key": holdout.key for index, holdout in holdouts.items()}
    keys |= {f"experiments.{index}.key": experiment.key for index, experiment in experiments.items()}
    yield from _repeated_values(keys.items())
    yield from _seed_problems(experiments, holdouts, layers)
    sharing = {index: each for index, each in experiments.items() if each.layer and each.status != "stopped"}
    for (_, first), (index, second) in combinations(sharing.items(), 2):
        if _take_the_same_users(first, second):
            rule = f"must not overlap those of {first.key}, which runs at the same time in the same layer"
            yield problem(f"experiments.{index}.layer.ranges", _layer_ranges(second), rule)


def _layer_problems(experiment: Experiment, at: str, layers: Collection[str]) -> Iterator[str]:
    if experiment.layer is None:
        return
    if experiment.layer.name not in layers:
        rule = f"must be one of the file's layers: {', '.join(layers) or 'it has none'}"
        yield problem(f"{at}.layer.name", experiment.layer.name, rule)
    ranges = sorted(experiment.layer.ranges)
    if any(second[0] < first[1] for first, second in pairwise(ranges)):
        yield problem(f"{at}.layer.ranges", _layer_ranges(experiment), "must not overlap each other")


def _variant_problems(variants: tuple[Variant, ...], at: str) -> Iterator[str]:
    weights = [variant.weight for variant in variants]
    if abs(sum(weights) - 1) > _ROUNDING:
        yield problem(f"{at}.variants.weight", weights, f"must sum to 1, not to {sum(weights):.9g}")
    yield from _repeated_values((f"{at}.variants.{index}.key", variant.key) for index, variant in enumerate(variants))
    for index, variant in enumerate(variants):
        if variant.key == INTERLEAVED:
            rule = "must be another word: interleaved pages are logged under this one"
            yield problem(f"{at}.variants.{index}.key", variant.key, rule)


def _type_problems(experiment: Experiment, at: str) -> Iterator[str]:
    variants, key = experiment.variants, f"{at}.variants"
    is_same = all(variant.page == experiment.control.page for variant in variants)
    if experiment.type == "aa" and not is_same:
        yield problem(key, _served_by(variants), "must all serve the same in an experiment of type aa")
    if experiment.type != "aa" and is_same:
        yield problem(key, _served_by(variants), "must not all serve the same: write type aa if that is meant")
    if experiment.type == "interleave":
        yield from _interleaving_problems(variants, key)


def _interleaving_problems(variants: tuple[Variant, ...], key: str) -> Iterator[str]:
    if len(variants) != 2:
        yield problem(key, [variant.key for variant in variants], "must be two: interleaving mixes two policies")
    for index, variant in enumerate(variants):
        if variant.exploration is not None:
            rule = "must be left out: interleaving draws the teams, not the sales"
            yield problem(f"{key}.{index}.exploration", variant.exploration.model_dump(), rule)


def _analysis_problems(experiment: Experiment, at: str) -> Iterator[str]:
    analysis = experiment.analysis
    metrics = [
        (f"{at}.{role}.{index}", metric)
        for role in ("primary", "secondary", "guardrails")
        for index, metric in enumerate(getattr(analysis, role))
    ]
    yield from _repeated_values((f"{key}.name", metric.name) for key, metric in metrics)
    for key, metric in metrics:
        if isinstance(metric, RatioSettings) and metric.numerator == metric.denominator:
            yield problem(f"{key}.denominator", metric.denominator, "must not be the numerator: the ratio is always 1")
    yield from _repeated_values((f"{at}.segments.{index}", name) for index, name in enumerate(analysis.segments))
    if "" in analysis.segments:
        yield problem(f"{at}.segments", list(analysis.segments), "must be names of attributes")


def _seed_problems(
    experiments: Mapping[int, Experiment], holdouts: Mapping[int, Holdout], layers: Mapping[str, Layer]
) -> Iterator[str]:
    seeds = {f"layers.{name}.seed": layer.seed for name, layer in layers.items()}
    seeds |= {f"holdouts.{index}.seed": holdout.seed for index, holdout in holdouts.items()}
    seeds |= {f"experiments.{index}.seed": experiment.hash_seed for index, experiment in experiments.items()}
    yield from _repeated_values(seeds.items())
    for key, seed in seeds.items():
        if not seed.endswith(":"):
            yield problem(key, seed, "must end with ':', or user 11 of seed 'a' is user 1 of seed 'a1'")


def _repeated_values(values: Iterable[tuple[str, _Value]]) -> Iterator[str]:
    """Return a problem for each value that an earlier key has too."""
    first: dict[_Value, str] = {}
    for key, value in values:
        if first.setdefault(value, key) != key:
            yield problem(key, value, f"must be used once, {first[value]} has it already")


def _take_the_same_users(first: Experiment, second: Experiment) -> bool:
    if first.layer is None or second.layer is None or first.layer.name != second.layer.name:
        return False
    at_the_same_time = first.start < second.end and second.start < first.end
    return at_the_same_time and bool((layer_mask(first.layer) & layer_mask(second.layer)).any())


def _layer_ranges(experiment: Experiment) -> list[list[float]]:
    return [list(each) for each in experiment.layer.ranges] if experiment.layer else []


def _served_by(variants: tuple[Variant, ...]) -> list[dict[str, Any]]:
    return [variant.page.model_dump(exclude_defaults=True) for variant in variants]
