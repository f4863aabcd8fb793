"""Hundreds of experiments that compare nothing, on what users really did: does the analysis find as much as it may?"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import binomtest, kstest

from recsys.errors import EmptyInputError
from recsys.experiments.analysis.analyze import analyze
from recsys.experiments.analysis.outcomes import Quantities, caps, daily_sums
from recsys.experiments.analysis.results import Interval, Look, Result
from recsys.experiments.assignment import assign_all
from recsys.experiments.evidence import Evidence, Health
from recsys.experiments.settings import Experiment


@dataclass(frozen=True)
class Share:
    """How many of the splits, with the interval that chance leaves (95 %, Clopper-Pearson)."""

    of: int
    count: int
    interval: Interval

    @property
    def value(self) -> float:
        """The share."""
        return self.count / self.of


@dataclass(frozen=True)
class MetricSimulation:
    """How often one metric of one variant seemed to differ."""

    metric: str
    variant: str
    fixed: Share
    """Wrong alarms of one look at the end; alpha of them are meant to be."""
    peeking: Share
    """Wrong alarms where somebody looks every day, and stops at the first p value below alpha."""
    always_valid: Share
    """Wrong alarms of the always-valid interval, looked at every day; at most alpha of them are meant to be."""
    uniformity_p: float
    """Kolmogorov-Smirnov: that the p values at the end are uniform."""


@dataclass(frozen=True)
class Simulation:
    """What so many splits of the same users gave."""

    splits: int
    users: int
    metrics: tuple[MetricSimulation, ...]
    sample_ratio: Share
    """Alarms of the sample ratio test."""


def simulate_aa(
    experiment: Experiment,
    user_days: pa.Table,
    seeds: Sequence[str],
    as_of: datetime,
    watched: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> Simulation:
    """Split the same users anew by each seed, and analyse each split as an experiment.

    Args:
        experiment: Its variants' weights and its analysis are taken; not its coverage, layer and segments.
        user_days: What the users did, as `recsys.experiments.outcomes.daily_sums` takes it; `variant` is not needed.
        seeds: One a split.
        as_of: When it was known.
        watched: Yields the seeds as they are taken, such as a progress bar does.

    Raises:
        EmptyInputError: If there are no users, or too few to compare in any split.
    """
    if not len(user_days):
        raise EmptyInputError("user_days == 0 rows: nothing to split; take a period in which users came")
    analysis = experiment.analysis.model_copy(update={"segments": ()})
    whole = experiment.model_copy(update={"type": "aa", "coverage": 1.0, "layer": None, "analysis": analysis})
    users = _Users(whole, user_days)
    results = [users.split(seed, as_of) for seed in watched(seeds)]
    return Simulation(
        splits=len(seeds),
        users=len(users.ids),
        metrics=tuple(_summary(results, place, analysis.alpha) for place in range(len(results[0].comparisons))),
        sample_ratio=_share([_is_uneven(result) for result in results]),
    )


class _Users:
    """What users did, ready to be split."""

    def __init__(self, experiment: Experiment, user_days: pa.Table):
        encoded = user_days["user_id"].combine_chunks().dictionary_encode()
        self.ids: list[str] = encoded.dictionary.to_pylist()
        self._user_of_row: NDArray[np.int32] = encoded.indices.to_numpy()
        self._experiment = experiment
        self._rows = user_days
        self._quantities = Quantities.of(experiment)
        self._caps = caps(user_days, self._quantities)

    def split(self, seed: str, as_of: datetime) -> Result:
        """Analyse one split."""
        experiment = self._experiment.model_copy(update={"seed": seed})
        keys = [variant.key for variant in experiment.variants]
        variants = assign_all(experiment, self.ids, {})
        of_row = pa.DictionaryArray.from_arrays(variants[self._user_of_row], keys)
        rows = self._rows.drop_columns(["variant"]) if "variant" in self._rows.column_names else self._rows
        sums = daily_sums(rows.append_column("variant", of_row), self._quantities, self._caps)
        users = dict(zip(keys, np.bincount(variants, minlength=len(keys)).tolist(), strict=True))
        return analyze(experiment, Evidence(sums, _healthy(users)), as_of)


def _healthy(users: Mapping[str, int]) -> Health:
    return Health(pages={}, fallbacks={}, users=users, jumpers=0, configuration_shas={}, model_versions={})


def _is_uneven(result: Result) -> bool:
    p = result.health.sample_ratio_p
    return p is not None and p < result.conventions.srm_alpha


def _summary(results: Sequence[Result], place: int, alpha: float) -> MetricSimulation:
    """Summarise one comparison, by its place among those of each result."""
    first = results[0].comparisons[place]
    found = [result.comparisons[place].decisive for result in results]
    ps = [each.p for each in found if each is not None]
    if not ps:
        raise EmptyInputError(f"{first.metric} cannot be compared in any of {len(results)} splits: take more users")
    looks = [
        [look for look in result.daily if (look.metric, look.variant) == (first.metric, first.variant)]
        for result in results
    ]
    return MetricSimulation(
        metric=first.metric,
        variant=first.variant,
        fixed=_share([p <= alpha for p in ps]),
        peeking=_share([_alarms(each, "interval") for each in looks]),
        always_valid=_share([_alarms(each, "always_valid") for each in looks]),
        uniformity_p=float(kstest(ps, "uniform").pvalue),
    )


def _alarms(looks: Sequence[Look], interval: str) -> bool:
    return any(0 not in getattr(look, interval) for look in looks)


def _share(alarms: Sequence[bool]) -> Share:
    interval = binomtest(sum(alarms), len(alarms)).proportion_ci(0.95, method="exact")
    return Share(len(alarms), sum(alarms), Interval(float(interval.low), float(interval.high)))
