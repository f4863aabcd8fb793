"""What an experiment file says: which pages are served to whom, and how the outcome is judged.

One file a surface, such as conf/experiments/home.yaml. The models here check each value; `files.py` reads a file and
checks what no value tells alone.
"""

import hashlib
import json
from datetime import UTC, timedelta
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from recsys.errors import ConfigurationError
from recsys.meta_model import META
from recsys.settings import StepSettings
from recsys.targeting import Condition

_Name = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]*$", max_length=60)]
_Seed = Annotated[str, Field(min_length=1, max_length=200)]
_Share = Annotated[float, Field(ge=0, le=1)]


def _ascending(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] >= ends[1]:
        raise ValueError("must be [start, end], start below end")
    return ends


def _at_least(n: int) -> AfterValidator:
    """Unlike `min_length`, does not complain of too few where one is wrong by itself."""

    def checked(values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(values) < n:
            raise ValueError(f"must be {n} or more")
        return values

    return AfterValidator(checked)


_Range = Annotated[tuple[_Share, _Share], Field(strict=False), AfterValidator(_ascending)]
_Instant = Annotated[AwareDatetime, AfterValidator(lambda instant: instant.astimezone(UTC))]

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
"""What is known of a user within his attribution window; see recsys/experiments/analysis/outcomes.py."""


class ExplorationSettings(StepSettings):
    """A page drawn at random around a policy's order, so that other policies can be judged by what users did."""

    temperature: float = Field(gt=0, le=100)
    """Scores are divided by it: the higher, the more the page differs from the policy's order."""
    floor: float = Field(0.0, ge=0, le=0.5)
    """Each sale's least probability at the first place, times the number of sales drawn from; 0.1 explores 10 %."""


class Served(StepSettings):
    """What orders a page."""

    policy: str = Field(min_length=1)
    """A policy of the snapshot: meta, popularity or a recommender's name."""
    model: str | None = Field(None, min_length=1)
    """For meta: an alias of the registered model, such as champion, or a version, such as '7'; else tonight's."""
    rules: bool = True
    """Whether the shop's rules for pages apply."""
    exploration: ExplorationSettings | None = None
    """Draws the page at random, and logs how likely it was; by default the best sales come first."""

    @model_validator(mode="after")
    def _only_meta_has_models(self) -> "Served":
        if self.model is not None and self.policy != META:
            raise ValueError(f"'model' is for policy {META} alone")
        return self


class Variant(Served):
    """One side of an experiment."""

    key: _Name
    """What it is called in logs and reports."""
    weight: float = Field(gt=0, le=1)
    """Its share of the experiment's users; the weights of an experiment sum to 1."""

    @property
    def page(self) -> Served:
        """What it serves, without what it is called: equal for variants whose pages are made the same way."""
        return Served(policy=self.policy, model=self.model, rules=self.rules, exploration=self.exploration)


class Layer(StepSettings):
    """A split of all users that several experiments share out, so that no user is in two of them."""

    seed: _Seed
    """What the split is hashed with; no other layer's, holdout's or experiment's."""


class LayerShare(StepSettings):
    """The part of a layer that an experiment takes."""

    name: _Name
    """One of `layers`."""
    ranges: Annotated[tuple[_Range, ...], _at_least(1)] = Field(strict=False)
    """Half-open parts of [0, 1)."""


class Holdout(StepSettings):
    """Users who are kept out of all experiments of the file."""

    key: _Name
    """What it is called in logs and reports."""
    seed: _Seed
    """What its users are drawn with."""
    share: float = Field(gt=0, le=0.5)
    """Of all users."""
    serve: Served
    """What they are shown."""


class MetricSettings(StepSettings):
    """What every metric has."""

    name: _Name
    """What it is called in reports."""
    direction: Literal["higher", "lower"] = "higher"
    """Which is better."""


class MeanSettings(MetricSettings):
    """The mean over users of a column."""

    type: Literal["mean"]
    """What the metric is: mean."""
    column: OutcomeColumn
    """What is added up for each user."""
    winsorize: float | None = Field(None, gt=0.5, lt=1)
    """Values above this quantile of the users of all variants count as the quantile; by default all count in full."""


class RatioSettings(MetricSettings):
    """The sum over users of one column by the sum of another."""

    type: Literal["ratio"]
    """What the metric is: ratio."""
    numerator: OutcomeColumn
    """What is counted."""
    denominator: OutcomeColumn
    """Of what."""


Metric = Annotated[MeanSettings | RatioSettings, Field(discriminator="type")]


class _Guarded(StepSettings):
    margin: float = Field(ge=0)
    """So much worse than control, in the metric's own unit, is still acceptable."""


class MeanGuardrail(MeanSettings, _Guarded):
    """A mean that must not get worse by more than a margin."""


class RatioGuardrail(RatioSettings, _Guarded):
    """A ratio that must not get worse by more than a margin."""


Guardrail = Annotated[MeanGuardrail | RatioGuardrail, Field(discriminator="type")]


class CupedSettings(StepSettings):
    """Takes out of a metric what the same user's past already told."""

    lookback_days: int = Field(28, ge=1, le=365)
    """The past: so many days before a user's first page of the experiment."""


class SequentialSettings(StepSettings):
    """Intervals that stay valid however often one looks."""

    method: Literal["asymptotic_cs"] = "asymptotic_cs"
    """Asymptotic confidence sequence; Waudby-Smith et al. 2021, eq. 9."""
    tune_n: int = Field(20_000, ge=100)
    """The number of users at which the interval is tightest."""


class AnalysisSettings(StepSettings):
    """How an experiment is judged."""

    attribution_days: float = Field(7, gt=0, le=90)
    """A user's visits and purchases count for so long after his first page of the experiment."""
    primary: Annotated[tuple[Metric, ...], _at_least(1)] = Field(strict=False)
    """The verdict rests on these."""
    secondary: tuple[Metric, ...] = Field((), strict=False)
    """For understanding."""
    guardrails: tuple[Guardrail, ...] = Field((), strict=False)
    """What must not get worse."""
    cuped: CupedSettings | None = None
    """Variance reduction; none by default."""
    alpha: float = Field(0.05, gt=0, lt=0.5)
    """Two-sided level of all tests and intervals."""
    power: float = Field(0.8, gt=0.5, lt=1)
    """For the minimum detectable effect."""
    sequential: SequentialSettings = SequentialSettings()
    multiplicity: Literal["holm", "benjamini_hochberg", "none"] = "holm"
    """Correction over the primary metrics times the variants other than control."""
    srm_alpha: float = Field(0.001, gt=0, lt=0.5)
    """Below this p value of the sample ratio test the result is invalid."""
    segments: tuple[str, ...] = Field((), strict=False)
    """Attributes of the requests; each value's users are looked at apart."""


class Experiment(StepSettings):
    """One comparison; the first variant is control."""

    key: _Name
    """What it is called in logs and reports; with the phase, the default seed."""
    type: Literal["ab", "aa", "interleave"] = "ab"
    """ab compares variants; aa compares a policy with itself; interleave mixes two policies on each page."""
    status: Literal["draft", "running", "paused", "stopped"]
    """Only running ones take users in; the others are checked all the same."""
    phase: int = Field(1, ge=1)
    """One more draws all users anew, and starts the analysis afresh."""
    seed: _Seed | None = None
    """What users are split with; by default '<key>:<phase>:'."""
    start: _Instant
    """Takes users in from this instant on, included."""
    end: _Instant
    """Up to this instant, excluded."""
    layer: LayerShare | None = None
    """The part of a layer whose users it may take; by default all users, whatever other experiments do."""
    coverage: float = Field(1.0, ge=0, le=1)
    """The share of each variant's users that is taken in: ramp with this alone."""
    targeting: Condition | None = None
    """A condition over the request's attributes; every request by default."""
    variants: Annotated[tuple[Variant, ...], _at_least(2)] = Field(strict=False, max_length=100)
    """Two or more; the first is control."""
    overrides: dict[str, str] = {}
    """Users who are always served a variant, by its key; never analysed."""
    analysis: AnalysisSettings
    """How it is judged."""

    @property
    def hash_seed(self) -> str:
        """What users are split with."""
        return self.seed if self.seed is not None else f"{self.key}:{self.phase}:"

    @property
    def control(self) -> Variant:
        """What the others are compared with."""
        return self.variants[0]

    @property
    def attribution(self) -> timedelta:
        """How long a user's outcomes count."""
        return timedelta(days=self.analysis.attribution_days)


class ExperimentFile(StepSettings):
    """All experiments of a surface, in order: the first that takes a user in serves him."""

    schema_version: Literal[1]
    """The form of the file: 1."""
    unit: Literal["user_id"] = "user_id"
    """What is split."""
    kill_switch: bool = False
    """True serves every user the default, at once."""
    default: Served
    """What users outside of all experiments are shown."""
    layers: dict[_Name, Layer] = {}
    """Splits of all users, by name, that experiments share out."""
    holdouts: tuple[Holdout, ...] = Field((), strict=False)
    """Users who are kept out of all experiments."""
    experiments: tuple[Experiment, ...] = Field((), strict=False)
    """The experiments, in the order in which they may take a user in."""

    def experiment(self, key: str) -> Experiment:
        """Return an experiment by its key.

        Raises:
            ConfigurationError: If there is none, naming those there are.
        """
        for each in self.experiments:
            if each.key == key:
                return each
        known = ", ".join(each.key for each in self.experiments) or "there is none"
        raise ConfigurationError(f"experiment == '{key}', must be one of the file's: {known}")

    @cached_property
    def fingerprint(self) -> str:
        """What tells files apart: 12 hexadecimal digits, blind to comments, layout and defaults."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
