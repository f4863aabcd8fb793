"""What the analysis of an experiment found: everything that a report shows, as plain values.

Differences are treatment minus control in the metric's own unit; a lift of 0.05 is 5 %. None stands for what cannot be
told: too few users, nothing in the denominator, or not asked for.
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
    """Both ends included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Difference:
    """A difference of two variants with its interval and the two-sided p value of no difference."""

    value: float
    interval: Interval
    p: float


@dataclass(frozen=True)
class CupedDifference(Difference):
    """A difference from which is taken what the same users' past already told."""

    variance_reduction: float
    """Share of the variance of the plain difference that is gone; 0.3 saves 30 % of the users."""


@dataclass(frozen=True)
class AlwaysValid:
    """What may be looked at every day, and stopped by."""

    interval: Interval
    p: float
    adjusted_p: float | None = None
    """Corrected for the number of primary comparisons; None for other metrics."""


@dataclass(frozen=True)
class Lift:
    """The difference that decides, relative to control, by the logarithm of the ratio; only for show."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Detectable:
    """The smallest true difference that so many users show with the power of the settings."""

    absolute: float
    relative: float | None
    """Of control's value."""


@dataclass(frozen=True)
class Guard:
    """Whether a guardrail holds."""

    margin: float
    """So much worse is acceptable."""
    worst: float
    """The worst difference that the data allow: the interval's end on the side that is worse."""
    state: GuardState
    """`holds`: the whole interval is within the margin; `violated`: the whole interval is beyond it."""


@dataclass(frozen=True)
class Comparison:
    """One metric of one variant against control."""

    metric: str
    role: Role
    direction: Direction
    """Which is better."""
    variant: str
    control_users: int
    variant_users: int
    control_value: float | None
    variant_value: float | None
    plain: Difference | None
    """By Welch's test; of a ratio by the delta method over users."""
    lift: Lift | None
    cuped: CupedDifference | None
    always_valid: AlwaysValid | None
    """Of the difference that decides."""
    detectable: Detectable | None
    adjusted_p: float | None = None
    """Of a primary metric: corrected for the number of primary comparisons; the verdict rests on it."""
    guard: Guard | None = None

    @property
    def decisive(self) -> Difference | None:
        """What decides: with CUPED where that is set, else plain."""
        return self.cuped or self.plain

    def improves(self, difference: float) -> bool:
        """Tell whether a difference is for the better."""
        return difference > 0 if self.direction == "higher" else difference < 0


@dataclass(frozen=True)
class Look:
    """One metric of one variant against control, as it stood at the end of a day."""

    day: date
    metric: str
    variant: str
    control_users: int
    variant_users: int
    difference: float
    interval: Interval
    """Valid for one look that was planned."""
    always_valid: Interval


@dataclass(frozen=True)
class Segment:
    """The primary metrics of the users with one value of an attribute; uncorrected, for understanding."""

    name: str
    """Such as country=DE."""
    users: Mapping[str, int]
    """By variant."""
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Triggered:
    """All metrics of the users whose page would have been another one in another variant."""

    share: float
    """Of the analysed users."""
    users: Mapping[str, int]
    """By variant."""
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Interleaving:
    """Which of two policies users buy from where both share a page."""

    variant: str
    users: int
    credits: Mapping[str, float]
    """Purchases by the key of the variant that put the sale on the page."""
    difference: Difference | None
    """Credits a user of the variant minus those of control, paired by user."""
    always_valid: AlwaysValid | None


@dataclass(frozen=True)
class VariantSummary:
    """One side, the first is control."""

    key: str
    weight: float
    serves: str
    """In words."""


@dataclass(frozen=True)
class Window:
    """When users were taken in, and up to when it is known what they did."""

    start: datetime
    end: datetime
    """Excluded."""
    as_of: datetime
    """What happened before it is known."""
    last_day: date | None
    """The last day that anything happened on."""
    ended: bool
    """Whether the last user's attribution is over."""


@dataclass(frozen=True)
class Conventions:
    """The settings that the figures depend on."""

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
    """What may tell that the figures cannot be trusted."""

    users: Mapping[str, int]
    """Analysed users by variant."""
    sample_ratio_p: float | None
    """That the weights split the users so unevenly by chance; None when interleaved or without users."""
    jumpers: int
    """Users who were assigned to more than one variant."""
    jumper_share: float
    pages: Mapping[str, Mapping[str, int]]
    """By variant and reason."""
    fallback_share: Mapping[str, float]
    """Of a variant's assigned pages, those that fell back from what it should serve."""
    configuration_shas: Mapping[str, int]
    """Pages by configuration."""
    model_versions: Mapping[str, Mapping[str, int]]
    """Pages by variant and model version."""
    recomputed: int
    """Users whose variant was computed again."""
    mismatches: int
    """Of those, the users who were served another."""
    warnings: tuple[str, ...] = ()
    """What to look at, in sentences."""


@dataclass(frozen=True)
class Verdict:
    """What to do."""

    name: VerdictName
    reasons: tuple[str, ...]
    """Sentences, the weightiest first."""
    variant: str | None = None
    """Which one to ship."""


@dataclass(frozen=True)
class Result:
    """All that is known of one phase of an experiment."""

    experiment: str
    phase: int
    type: Literal["ab", "aa", "interleave"]
    variants: tuple[VariantSummary, ...]
    window: Window
    conventions: Conventions
    health: HealthResult
    verdict: Verdict
    comparisons: tuple[Comparison, ...] = ()
    """By metric, as in the settings, then by variant; none when interleaved."""
    segments: tuple[Segment, ...] = ()
    daily: tuple[Look, ...] = ()
    """By metric, variant and day."""
    triggered: Triggered | None = None
    interleaving: Interleaving | None = None
    format: Literal[1] = 1

    def to_json(self) -> str:
        """Return it as indented JSON that `from_json` reads."""
        return _RESULT.dump_json(self, indent=2).decode() + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Result":
        """Read a result that `to_json` wrote."""
        return _RESULT.validate_json(text)


_RESULT = TypeAdapter(Result)
