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
from recsys.experiments.analysis.results import Comparison, Difference, Interval, Look, Result
from recsys.experiments.assignment import NO_VARIANT, assign_all
from recsys.experiments.phase_summary import Health, PhaseSummary
from recsys.experiments.settings import Experiment

_FAILING = 0.001
"""A check fails if its p value is below this: a sound set-up fails in one of 1,000 simulations."""
_MOST_EQUAL = 0.02
"""Largest share of equal p values for the test that they are uniform: counts of few buyers have few different ones."""


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

    def exceeds(self, rate: float) -> bool:
        """Return whether the share is above a rate by more than chance explains."""
        return bool(binomtest(self.count, self.of, rate, alternative="greater").pvalue < _FAILING)


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
    uniformity_p: float | None
    """p value of the Kolmogorov-Smirnov test that the p values at the end are uniform; None where they cannot be."""
    untestable: str = ""
    """Why the metric cannot be tested, in words; then no rate means anything. Empty where it can."""

    def passes(self, alpha: float) -> bool | None:
        """Return whether the rates are no higher than alpha and the p values uniform; None if it cannot be tested."""
        if self.untestable:
            return None
        is_uniform = self.uniformity_p is None or self.uniformity_p >= _FAILING
        return is_uniform and not self.fixed.exceeds(alpha) and not self.always_valid.exceeds(alpha)


@dataclass(frozen=True)
class Simulation:
    """The false positive rates over many random splits of the same users."""

    splits: int
    users: int
    metrics: tuple[MetricSimulation, ...]
    sample_ratio: Share
    """False positives of the sample ratio test."""
    alpha: float = 0.05
    srm_alpha: float = 0.001

    @property
    def passes(self) -> bool:
        """Whether no metric that can be tested fails, and neither does the sample ratio test."""
        rates_hold = all(each.passes(self.alpha) is not False for each in self.metrics)
        return rates_hold and not self.sample_ratio.exceeds(self.srm_alpha)


def simulate_aa(
    experiment: Experiment,
    user_days: pa.Table,
    seeds: Sequence[str],
    as_of: datetime,
    watched: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> Simulation:
    """Split the same users anew by each seed, and analyse each split as an experiment.

    Args:
        experiment: Its weights, coverage and analysis settings are used; its layer, targeting and segments are not.
        user_days: The users' outcomes, as `recsys.experiments.analysis.outcomes.daily_sums` expects them; column
            `variant` is not needed.
        seeds: One seed per split.
        as_of: The time of the analysis.
        watched: Wraps the seeds to show progress, such as a progress bar.

    Raises:
        EmptyInputError: If there are no users.
    """
    if not len(user_days):
        raise EmptyInputError("user_days has 0 rows, must have 1 or more: take a period with visits")
    analysis = experiment.analysis.model_copy(update={"segments": ()})
    whole = experiment.model_copy(update={"type": "aa", "layer": None, "analysis": analysis})
    users = _UserDays(whole, user_days)
    results = [users.split(seed, as_of) for seed in watched(seeds)]
    return Simulation(
        splits=len(seeds),
        users=len(users.ids),
        metrics=tuple(
            _simulated_metric(results, index, analysis.alpha) for index in range(len(results[0].comparisons))
        ),
        sample_ratio=_share_of([_has_mismatch(result) for result in results]),
        alpha=analysis.alpha,
        srm_alpha=analysis.srm_alpha,
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
        side_of_row = variants[self._user_of_row]
        rows = self._rows.drop_columns(["variant"]) if "variant" in self._rows.column_names else self._rows
        if experiment.coverage < 1:
            rows, side_of_row = rows.filter(side_of_row != NO_VARIANT), side_of_row[side_of_row != NO_VARIANT]
        of_row = pa.DictionaryArray.from_arrays(side_of_row, keys)
        sums = daily_sums(rows.append_column("variant", of_row), self._quantities, self._caps)
        taken_in = variants[variants != NO_VARIANT]
        users = dict(zip(keys, np.bincount(taken_in, minlength=len(keys)).tolist(), strict=True))
        return analyze(experiment, PhaseSummary(sums, _health_without_problems(users)), as_of)


def _health_without_problems(users: Mapping[str, int]) -> Health:
    return Health(pages={}, fallbacks={}, users=users, jumpers=0, configuration_shas={}, model_versions={})


def _has_mismatch(result: Result) -> bool:
    return result.health.has_sample_ratio_mismatch(result.conventions.srm_alpha)


def _simulated_metric(results: Sequence[Result], index: int, alpha: float) -> MetricSimulation:
    """Summarise one comparison over all splits, by its index in `comparisons`."""
    found = [result.comparisons[index] for result in results]
    metric, variant = found[0].metric, found[0].variant
    looks = [[look for look in result.daily if (look.metric, look.variant) == (metric, variant)] for result in results]
    testable = [each for each in found if each.can_tell and each.decisive and not _is_constant(each.decisive)]
    ps = [each.decisive.p for each in testable if each.decisive]
    return MetricSimulation(
        metric=metric,
        variant=variant,
        fixed=_share_of([each.can_tell and each.decisive is not None and each.decisive.p <= alpha for each in found]),
        peeking=_share_of([_excludes_zero(each, "interval") for each in looks]),
        always_valid=_share_of([_excludes_zero(each, "always_valid") for each in looks]),
        uniformity_p=float(kstest(ps, "uniform").pvalue) if _can_be_uniform(ps, len(found)) else None,
        untestable="" if testable else _why_untestable(found),
    )


def _is_constant(difference: Difference) -> bool:
    return difference.interval.low == difference.interval.high


def _can_be_uniform(ps: Sequence[float], splits: int) -> bool:
    """Return whether p values may be expected to be uniform: those of all splits, and few of them equal."""
    return len(ps) == splits and max(np.unique(np.round(ps, 9), return_counts=True)[1]) <= max(1, _MOST_EQUAL * splits)


def _why_untestable(found: Sequence[Comparison]) -> str:
    if all(each.decisive is None for each in found):
        return "too few users to compare"
    if all(each.decisive is None or _is_constant(each.decisive) for each in found):
        return "it is the same for every user"
    return "too few users have a value other than 0, or a few large values decide"


def _excludes_zero(looks: Sequence[Look], interval: str) -> bool:
    """Return whether an interval of any look that can tell excludes zero."""
    return any(look.can_tell and 0 not in getattr(look, interval) for look in looks)


def _share_of(positives: Sequence[bool]) -> Share:
    interval = binomtest(sum(positives), len(positives)).proportion_ci(0.95, method="exact")
    return Share(len(positives), sum(positives), Interval(float(interval.low), float(interval.high)))
