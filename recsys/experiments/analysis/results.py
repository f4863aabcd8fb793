"""The result of an experiment's analysis: everything that a report shows, as plain values.

Differences are treatment minus control in the metric's own unit; a lift of 0.05 is 5 %. None means that a value could
not be computed (too few users, or a denominator of 0) or was not configured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from pydantic import TypeAdapter

Direction = Literal["higher", "lower"]
Role = Literal["primary", "secondary", "guardrail"]
GuardState = Literal["holds", "violated", "open"]
VerdictName = Literal["invalid", "running", "ship", "no-ship", "inconclusive"]


@dataclass(frozen=True)
class Interval:
    """An interval with both ends included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Difference:
    """A difference of two variants with its confidence interval and the two-sided p value of no difference."""

    value: float
    interval: Interval
    p: float


@dataclass(frozen=True)
class CupedDifference(Difference):
    """A CUPED-adjusted difference."""

    variance_reduction: float
    """1 - variance / variance of the plain difference; 0.3 saves 30 % of the users."""


@dataclass(frozen=True)
class AlwaysValid:
    """The always-valid interval and p value of a difference, valid for daily looks and early stopping."""

    interval: Interval
    p: float
    adjusted_p: float | None = None
    """p corrected for the number of primary comparisons; None for other metrics."""


@dataclass(frozen=True)
class Evidence:
    """Whether the data suffice to tell a difference; otherwise its sampling distribution is too far from normal."""

    control_nonzero: int
    """Users of control with a value other than 0; of a ratio, in its numerator."""
    variant_nonzero: int
    skewness: float
    """Of the sampling distribution of the difference, by the skewness of users' values and the sizes of the arms."""
    is_enough: bool
    """Whether interval and p value can be relied on."""


@dataclass(frozen=True)
class Lift:
    """The decisive difference relative to control, with an interval by the log ratio; for information only."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Detectable:
    """The minimum detectable effect at the configured power."""

    absolute: float
    """In the metric's own unit."""
    relative: float | None
    """Relative to control's value."""


@dataclass(frozen=True)
class Guard:
    """The state of a guardrail."""

    margin: float
    """The largest acceptable deterioration."""
    worst: float
    """The worst difference that the data allow: the end of the interval on the worse side."""
    state: GuardState
    """`holds`: the whole interval is within the margin; `violated`: the whole interval is beyond it; else `open`."""


@dataclass(frozen=True)
class Comparison:
    """One metric of one variant against control."""

    metric: str
    role: Role
    direction: Direction
    """Which direction is better."""
    variant: str
    control_users: int
    variant_users: int
    control_value: float | None
    variant_value: float | None
    plain: Difference | None
    """By Welch's test, corrected for skewness; for a ratio by the delta method over users."""
    lift: Lift | None
    cuped: CupedDifference | None
    always_valid: AlwaysValid | None
    """For the decisive difference."""
    detectable: Detectable | None
    adjusted_p: float | None = None
    """For a primary metric: p corrected for the number of primary comparisons; the verdict rests on it."""
    guard: Guard | None = None
    evidence: Evidence | None = None
    """Of the decisive difference; None where nothing can be compared."""

    @property
    def can_tell(self) -> bool:
        """Whether there is a decisive difference, and the data suffice to rely on it."""
        return self.decisive is not None and (self.evidence is None or self.evidence.is_enough)

    @property
    def decisive(self) -> Difference | None:
        """The difference that decides: CUPED-adjusted if there is one, else plain."""
        return self.cuped or self.plain

    def improves(self, difference: float) -> bool:
        """Return whether a difference is in the better direction."""
        return difference > 0 if self.direction == "higher" else difference < 0


@dataclass(frozen=True)
class Look:
    """One metric of one variant against control, as of the end of a day."""

    day: date
    metric: str
    variant: str
    control_users: int
    variant_users: int
    difference: float
    interval: Interval
    """Valid for a single, planned look."""
    always_valid: Interval
    """Valid for all looks together."""
    can_tell: bool = True
    """Whether the data suffice to rely on the intervals."""


@dataclass(frozen=True)
class SegmentResult:
    """The primary metrics of the users with one value of an attribute; exploratory, p values are not corrected."""

    name: str
    """Such as country=DE."""
    users: Mapping[str, int]
    """By variant."""
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Triggered:
    """Triggered analysis: all metrics of the users whose page differed between the variants at least once."""

    share: float
    """Share of the analysed users."""
    users: Mapping[str, int]
    """By variant."""
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Interleaving:
    """The preference between two interleaved policies."""

    variant: str
    """The key of the variant that is not control."""
    users: int
    credits: Mapping[str, float]
    """Purchases by the key of the variant that contributed the sale."""
    difference: Difference | None
    """Credits per user of the variant minus those of control, paired by user."""
    always_valid: AlwaysValid | None
    can_tell: bool = True
    """Whether the data suffice to rely on the difference."""


@dataclass(frozen=True)
class VariantSummary:
    """A variant; the first is control."""

    key: str
    weight: float
    serves: str
    """How its pages are ordered, in words."""


@dataclass(frozen=True)
class Window:
    """The period in which users were included, and the time of the analysis."""

    start: datetime
    end: datetime
    """Exclusive."""
    as_of: datetime
    """Pages and events before it are known."""
    last_day: date | None
    """The last day with a page or an event."""
    ended: bool
    """Whether the last user's attribution window is over."""


@dataclass(frozen=True)
class Conventions:
    """The settings that the results depend on."""

    alpha: float
    power: float
    attribution_days: float
    lookback_days: int | None
    """Of CUPED; None without it."""
    multiplicity: str
    srm_alpha: float
    tune_n: int
    """Users at which the always-valid interval is tightest."""


@dataclass(frozen=True)
class HealthResult:
    """Checks of whether the results can be trusted."""

    users: Mapping[str, int]
    """Analysed users by variant."""
    sample_ratio_p: float | None
    """p value of the sample ratio test by chi-squared, valid for a single look; None for interleaving or without
    users."""
    jumpers: int
    """Users who were assigned to more than one variant."""
    jumper_share: float
    """Share of the analysed users."""
    pages: Mapping[str, Mapping[str, int]]
    """By variant and reason."""
    fallback_share: Mapping[str, float]
    """Share of a variant's assigned pages for which a fallback was served."""
    configuration_shas: Mapping[str, int]
    """Pages by the fingerprint of the configuration."""
    model_versions: Mapping[str, Mapping[str, int]]
    """Pages by variant and model version."""
    recomputed: int
    """Users whose variant was recomputed from the configuration."""
    mismatches: int
    """The recomputed users who were served another variant."""
    warnings: tuple[str, ...] = ()
    """Sentences about what to check."""
    sequential_sample_ratio_p: float | None = None
    """p value of the sequential sample ratio test, valid at daily looks: it decides whether there is a mismatch."""

    def has_sample_ratio_mismatch(self, srm_alpha: float) -> bool:
        """Return whether the users are not split by the weights."""
        return self.sequential_sample_ratio_p is not None and self.sequential_sample_ratio_p < srm_alpha


@dataclass(frozen=True)
class Verdict:
    """The recommendation."""

    name: VerdictName
    reasons: tuple[str, ...]
    """Sentences, the most important first."""
    variant: str | None = None
    """The key of the variant to ship."""


@dataclass(frozen=True)
class Result:
    """The result of one phase of an experiment."""

    experiment: str
    phase: int
    type: Literal["ab", "aa", "interleave"]
    variants: tuple[VariantSummary, ...]
    window: Window
    conventions: Conventions
    health: HealthResult
    verdict: Verdict
    comparisons: tuple[Comparison, ...] = ()
    """By metric in the order of the settings, then by variant; none for interleaving."""
    segments: tuple[SegmentResult, ...] = ()
    daily: tuple[Look, ...] = ()
    """By metric, variant and day."""
    triggered: Triggered | None = None
    interleaving: Interleaving | None = None
    format: Literal[1] = 1

    def to_json(self) -> str:
        """Return indented JSON that `from_json` reads."""
        return _RESULT.dump_json(self, indent=2).decode() + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Result":
        """Read a result that `to_json` wrote."""
        return _RESULT.validate_json(text)


_RESULT = TypeAdapter(Result)
