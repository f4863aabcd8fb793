"""The settings of an experiment file: which pages are served to which users, and how the outcome is judged.

There is one file per surface, such as conf/experiments/home.yaml. The models here check each value by itself;
`files.py` reads a file and checks the values together.
"""

import hashlib
import json
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from recsys.errors import ConfigurationError
from recsys.instants import Instant
from recsys.meta_model import META
from recsys.settings import StepSettings
from recsys.targeting import Condition

_Name = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]*$", max_length=60)]
_Seed = Annotated[str, Field(min_length=1, max_length=200)]
_Share = Annotated[float, Field(ge=0, le=1)]


def _require_ascending(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] >= ends[1]:
        raise ValueError("must be [start, end], start below end")
    return ends


def _at_least(n: int) -> AfterValidator:
    """Require n values or more; unlike `min_length`, reports no shortage where one of the values is itself invalid."""

    def require_n(values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(values) < n:
            raise ValueError(f"must be {n} or more")
        return values

    return AfterValidator(require_n)


_Range = Annotated[tuple[_Share, _Share], Field(strict=False), AfterValidator(_require_ascending)]

OutcomeColumn = Literal[
    "exposures",
    "fallbacks",
    "visits",
    "purchases",
    "revenue",
    "visited",
    "purchased",
    "attributed_visits",
    "attributed_purchases",
    "attributed_revenue",
]
"""A user's outcomes within their attribution window; see recsys/experiments/analysis/outcomes.py."""


class ExplorationSettings(StepSettings):
    """Pages are drawn at random around a policy's order, so that other policies can be evaluated off-policy."""

    temperature: float = Field(gt=0, le=100)
    """Scores are divided by it: the higher, the more a page differs from the policy's order."""
    floor: float = Field(0.0, ge=0, le=0.5)
    """Share of an even draw in the probabilities: a floor of 0.1 explores 10 %. At the first position each of n sales
    has a probability of at least floor / n."""


class Served(StepSettings):
    """How a page is ordered."""

    policy: str = Field(min_length=1)
    """A policy of the snapshot: meta, popularity or a recommender's name."""
    model: str | None = Field(None, min_length=1)
    """For meta: an alias of the registered model, such as champion, or a version, such as '7'; default tonight's."""
    rules: bool = True
    """Whether the shop's rules for pages apply."""
    exploration: ExplorationSettings | None = None
    """Draws the page at random and logs the propensities; by default the best sales come first."""
    ranking: Literal["live", "snapshot"] | None = None
    """Whether pages are ranked live, as of the present, or by the night's snapshot; default `serving.ranking`."""

    @property
    def is_live(self) -> bool | None:
        """Whether pages are ranked as of the present; None where the service's settings decide."""
        return None if self.ranking is None else self.ranking == "live"

    @model_validator(mode="after")
    def _only_meta_has_models(self) -> "Served":
        if self.model is not None and self.policy != META:
            raise ValueError(f"'model' is only for policy {META}")
        return self


class Variant(Served):
    """One variant of an experiment."""

    key: _Name
    """Its name in logs and reports."""
    weight: float = Field(gt=0, le=1)
    """Its share of the experiment's users; the weights of an experiment sum to 1."""

    @property
    def page(self) -> Served:
        """How its pages are ordered, without key and weight; equal for variants that serve the same pages."""
        return Served(**{field: getattr(self, field) for field in Served.model_fields})


class Layer(StepSettings):
    """A split of all users into disjoint parts, one or more per experiment, so that no user is in two of them."""

    seed: _Seed
    """The seed of the hash; different from that of every other layer, holdout and experiment."""


class LayerShare(StepSettings):
    """The part of a layer that an experiment takes."""

    name: _Name
    """The name of the layer, one of `layers`."""
    ranges: Annotated[tuple[_Range, ...], _at_least(1)] = Field(strict=False)
    """Half-open intervals [start, end) within [0, 1)."""


class MetricSettings(StepSettings):
    """The settings that all metrics have."""

    name: _Name
    """Its name in reports."""
    direction: Literal["higher", "lower"] = "higher"
    """Which direction is better."""


class MeanSettings(MetricSettings):
    """The mean of a column over users."""

    type: Literal["mean"]
    """The type of the metric: mean."""
    column: OutcomeColumn
    """The outcome that is summed per user."""
    winsorize: float | None = Field(None, gt=0.5, lt=1)
    """Values above this quantile, over the users of all variants, are set to it; by default there is no limit."""


class RatioSettings(MetricSettings):
    """The sum of one column over users, divided by the sum of another."""

    type: Literal["ratio"]
    """The type of the metric: ratio."""
    numerator: OutcomeColumn
    """The outcome whose sum is divided."""
    denominator: OutcomeColumn
    """The outcome whose sum it is divided by."""


Metric = Annotated[MeanSettings | RatioSettings, Field(discriminator="type")]


class _Guarded(StepSettings):
    margin: float = Field(ge=0)
    """The largest acceptable deterioration against control, in the metric's own unit."""


class MeanGuardrail(MeanSettings, _Guarded):
    """A mean that must not deteriorate by more than a margin."""


class RatioGuardrail(RatioSettings, _Guarded):
    """A ratio that must not deteriorate by more than a margin."""


Guardrail = Annotated[MeanGuardrail | RatioGuardrail, Field(discriminator="type")]


class CupedSettings(StepSettings):
    """CUPED: adjusts a metric by the same outcomes of each user before the experiment, to reduce its variance."""

    lookback_days: int = Field(28, ge=1, le=365)
    """Length of the pre-experiment period: days before a user's first page of the experiment."""


class SequentialSettings(StepSettings):
    """Always-valid intervals: their coverage holds however often the results are looked at."""

    method: Literal["asymptotic_cs"] = "asymptotic_cs"
    """Asymptotic confidence sequence; Waudby-Smith et al. 2021, eq. 9."""
    tune_n: int = Field(20_000, ge=100)
    """The number of users at which the interval is tightest."""


class AnalysisSettings(StepSettings):
    """How an experiment is judged."""

    attribution_days: float = Field(7, gt=0, le=90)
    """The attribution window: a user's events within this many days of their first page of the experiment count."""
    primary: Annotated[tuple[Metric, ...], _at_least(1)] = Field(strict=False)
    """The metrics that the verdict rests on."""
    secondary: tuple[Metric, ...] = Field((), strict=False)
    """Further metrics, for interpretation; they do not affect the verdict."""
    guardrails: tuple[Guardrail, ...] = Field((), strict=False)
    """The metrics that must not deteriorate."""
    cuped: CupedSettings | None = None
    """Variance reduction; none by default."""
    alpha: float = Field(0.05, gt=0, lt=0.5)
    """Two-sided significance level of all tests and intervals."""
    power: float = Field(0.8, gt=0.5, lt=1)
    """The power at which the minimum detectable effect is reported."""
    sequential: SequentialSettings = SequentialSettings()
    multiplicity: Literal["holm", "benjamini_hochberg", "none"] = "holm"
    """Multiple-testing correction over the primary metrics times the variants other than control."""
    srm_alpha: float = Field(0.001, gt=0, lt=0.5)
    """Sample ratio mismatch: the result is invalid if the p value of the sample ratio test is below this."""
    segments: tuple[str, ...] = Field((), strict=False)
    """Attributes of the requests; the users with each value are also analysed separately."""


class Holdout(StepSettings):
    """Users who are in no experiment of the file."""

    key: _Name
    """Its name in logs and reports."""
    seed: _Seed
    """The seed by which its users are drawn."""
    share: float = Field(gt=0, le=0.5)
    """Share of all users."""
    serve: Served
    """How their pages are ordered."""
    start: Instant | None = None
    """`experiment analyze` compares pages from this instant on; by default from the first page of the holdout on."""
    end: Instant | None = None
    """`experiment analyze` counts users who come before this instant, and gives a verdict once their attribution
    windows are over; by default there is no end, and only the always-valid interval can be conclusive."""
    analysis: AnalysisSettings | None = None
    """How the holdout is judged against all other users; by default by purchases per user within 28 days."""


class Experiment(StepSettings):
    """One comparison of variants, the first of which is control."""

    key: _Name
    """Its name in logs and reports; together with the phase, the default seed."""
    type: Literal["ab", "aa", "interleave"] = "ab"
    """ab compares variants; aa compares a policy with itself; interleave mixes two policies on each page."""
    status: Literal["draft", "running", "paused", "stopped"]
    """Only a running experiment includes users; the others are checked all the same."""
    phase: int = Field(1, ge=1)
    """Increase it by 1 to assign all users anew and to restart the analysis."""
    seed: _Seed | None = None
    """The seed by which users are split; by default '<key>:<phase>:'."""
    start: Instant
    """Users are included from this instant on (inclusive)."""
    end: Instant
    """Users are included up to this instant (exclusive)."""
    layer: LayerShare | None = None
    """The part of a layer whose users may be included; by default all users, independent of other experiments."""
    coverage: float = Field(1.0, ge=0, le=1)
    """The share of each variant's users that is included; to ramp up, change nothing else."""
    targeting: Condition | None = None
    """A condition on the request's attributes; every request by default."""
    variants: Annotated[tuple[Variant, ...], _at_least(2)] = Field(strict=False, max_length=100)
    """Two or more variants; the first is control."""
    overrides: dict[str, str] = {}
    """Users who are always served the variant of a given key; they are not analysed."""
    analysis: AnalysisSettings
    """How it is judged."""

    @property
    def hash_seed(self) -> str:
        """The seed by which users are split."""
        return self.seed if self.seed is not None else f"{self.key}:{self.phase}:"

    @property
    def control(self) -> Variant:
        """The variant that the others are compared with."""
        return self.variants[0]

    @property
    def attribution(self) -> timedelta:
        """The length of a user's attribution window."""
        return timedelta(days=self.analysis.attribution_days)


class ExperimentFile(StepSettings):
    """All experiments of a surface, in order: a user is in the first one that includes them."""

    schema_version: Literal[1]
    """The version of the file format: 1."""
    unit: Literal["user_id"] = "user_id"
    """The unit of randomisation."""
    kill_switch: bool = False
    """True ends all experiments at once: every user is served the default."""
    default: Served
    """How the pages of users outside of all experiments are ordered."""
    layers: dict[_Name, Layer] = {}
    """Splits of all users, by name, that experiments take parts of."""
    holdouts: tuple[Holdout, ...] = Field((), strict=False)
    """Users who are in no experiment."""
    experiments: tuple[Experiment, ...] = Field((), strict=False)
    """The experiments, in the order in which they are tried for a user."""

    def experiment(self, key: str) -> Experiment:
        """Return an experiment by its key.

        Raises:
            ConfigurationError: If the file has no such experiment; the message names those that it has.
        """
        for each in self.experiments:
            if each.key == key:
                return each
        keys = [*(each.key for each in self.experiments), *(each.key for each in self.holdouts)]
        known = ", ".join(keys) or "it has none"
        raise ConfigurationError(f"experiment == '{key}', must be one of the file's: {known}")

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the contents, 12 hexadecimal digits, independent of comments, layout and stated defaults."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
