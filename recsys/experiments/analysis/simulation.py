"""A/A simulation: splits real past users at random many times, and measures the analysis's false positive rates."""

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
from recsys.experiments.phase_summary import Health, PhaseSummary
from recsys.experiments.settings import Experiment
from recsys.wording import plural


@dataclass(frozen=True)
class Share:
    """A share of the splits with its 95 % confidence interval (Clopper-Pearson)."""

    of: int
    """Number of splits."""
    count: int
    interval: Interval

    @property
    def value(self) -> float:
        """The share."""
        return self.count / self.of


@dataclass(frozen=True)
class MetricSimulation:
    """The false positive rates of one metric of one variant."""

    metric: str
    variant: str
    fixed: Share
    """False positives with a single look at the end; expected: alpha."""
    peeking: Share
    """False positives with daily looks and a stop at the first p value below alpha; expected: above alpha."""
    always_valid: Share
    """False positives of the always-valid interval with daily looks; expected: at most alpha."""
    uniformity_p: float
    """p value of the Kolmogorov-Smirnov test that the p values at the end are uniform."""


@dataclass(frozen=True)
class Simulation:
    """The false positive rates over many random splits of the same users."""

    splits: int
    users: int
    metrics: tuple[MetricSimulation, ...]
    sample_ratio: Share
    """False positives of the sample ratio test."""


def simulate_aa(
    experiment: Experiment,
    user_days: pa.Table,
    seeds: Sequence[str],
    as_of: datetime,
    watched: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> Simulation:
    """Split the same users anew by each seed, and analyse each split as an experiment.

    Args:
        experiment: Its weights and analysis settings are used; its coverage, layer and segments are not.
        user_days: The users' outcomes, as `recsys.experiments.analysis.outcomes.daily_sums` expects them; column
            `variant` is not needed.
        seeds: One seed per split.
        as_of: The time of the analysis.
        watched: Wraps the seeds to show progress, such as a progress bar.

    Raises:
        EmptyInputError: If there are no users, or too few to compare in any split.
    """
    if not len(user_days):
        raise EmptyInputError("user_days has 0 rows, must have 1 or more: take a period with visits")
    analysis = experiment.analysis.model_copy(update={"segments": ()})
    whole = experiment.model_copy(update={"type": "aa", "coverage": 1.0, "layer": None, "analysis": analysis})
    users = _UserDays(whole, user_days)
    results = [users.split(seed, as_of) for seed in watched(seeds)]
    return Simulation(
        splits=len(seeds),
        users=len(users.ids),
        metrics=tuple(
            _simulated_metric(results, index, analysis.alpha) for index in range(len(results[0].comparisons))
        ),
        sample_ratio=_share_of([_has_mismatch(result) for result in results]),
    )


class _UserDays:
    """The user-days of some users, prepared for repeated splits."""

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
        return analyze(experiment, PhaseSummary(sums, _health_without_problems(users)), as_of)


def _health_without_problems(users: Mapping[str, int]) -> Health:
    return Health(pages={}, fallbacks={}, users=users, jumpers=0, configuration_shas={}, model_versions={})


def _has_mismatch(result: Result) -> bool:
    return result.health.has_sample_ratio_mismatch(result.conventions.srm_alpha)


def _simulated_metric(results: Sequence[Result], index: int, alpha: float) -> MetricSimulation:
    """Summarise one comparison over all splits, by its index in `comparisons`."""
    first = results[0].comparisons[index]
    decisive = [result.comparisons[index].decisive for result in results]
    ps = [each.p for each in decisive if each is not None]
    if not ps:
        splits = plural(len(results), "split")
        raise EmptyInputError(f"{first.metric} cannot be compared in any of {splits}: take more users")
    looks = [
        [look for look in result.daily if (look.metric, look.variant) == (first.metric, first.variant)]
        for result in results
    ]
    return MetricSimulation(
        metric=first.metric,
        variant=first.variant,
        fixed=_share_of([p <= alpha for p in ps]),
        peeking=_share_of([_excludes_zero(each, "interval") for each in looks]),
        always_valid=_share_of([_excludes_zero(each, "always_valid") for each in looks]),
        uniformity_p=float(kstest(ps, "uniform").pvalue),
    )


def _excludes_zero(looks: Sequence[Look], interval: str) -> bool:
    """Return whether an interval of any look excludes zero."""
    return any(0 not in getattr(look, interval) for look in looks)


def _share_of(positives: Sequence[bool]) -> Share:
    interval = binomtest(sum(positives), len(positives)).proportion_ci(0.95, method="exact")
    return Share(len(positives), sum(positives), Interval(float(interval.low), float(interval.high)))
