"""What the shop's staff write: an ordered list of rules for home pages, typed and strict.

A rule that stands earlier in the list wins where two cannot both be met. Whatever their order, pages are made in
this one: filters, boosts, buries, pins, and then one pass from the first place to the last for quotas, new sales
and diversity. Filters and pins are kept; the others give way, and say so, rather than leave a place empty.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, ValidationInfo, field_validator, model_validator

from recsys.config import strict_yaml
from recsys.settings import StepSettings
from recsys.targeting import Condition

_Text = Annotated[str, Field(min_length=1)]


class RuleSettings(StepSettings):
    """What every rule has."""

    name: str = Field(pattern="^[a-z][a-z0-9_]*$", max_length=60)
    """What the rule is called in answers and reports; lower-case letters, digits and _."""
    surface: _Text | None = None
    """The page that the rule is for, such as home; every page by default."""
    targeting: Condition | None = None
    """A condition over the request's attributes, such as {market: France}; every request by default."""
    since: AwareDatetime | None = Field(None, alias="from")
    """The rule holds from this instant on, included; by default it has always held."""
    until: AwareDatetime | None = None
    """The rule holds up to this instant, excluded; by default it always will."""

    @field_validator("until")
    @classmethod
    def _after_since(cls, until: AwareDatetime | None, info: ValidationInfo) -> AwareDatetime | None:
        since = info.data.get("since")
        if since and until and until <= since:
            raise ValueError(f"must be after 'from', {since.isoformat()}")
        return until


class FilterSettings(RuleSettings):
    """Sales that are never shown, whatever other rules say, even if places stay empty."""

    kind: Literal["filter"]
    """What the rule does: filter."""
    match: Condition
    """Which sales: a condition over attributes, sale_id, title, price and theme."""


class BoostSettings(RuleSettings):
    """Sales that stand further up: as many places whatever the scores, which differ in scale between policies."""

    kind: Literal["boost"]
    """What the rule does: boost."""
    match: Condition
    """Which sales: a condition over attributes, sale_id, title, price and theme."""
    places: int = Field(ge=1)
    """So many places up; matching sales keep their order, so one never passes another."""


class BurySettings(RuleSettings):
    """Sales that come after all others, boosted or not: they are shown where nothing else is left."""

    kind: Literal["bury"]
    """What the rule does: bury."""
    match: Condition
    """Which sales: a condition over attributes, sale_id, title, price and theme."""


class PinSettings(RuleSettings):
    """Sales at fixed places; one that is not open, not known or filtered out is skipped and the others close up."""

    kind: Literal["pin"]
    """What the rule does: pin."""
    sale_ids: tuple[_Text, ...] = Field(strict=False)
    """The sales, the first at `position` and the others after it; at the next free place where one is taken."""
    position: int = Field(ge=1)
    """The place of the first sale, counted from 1."""

    @field_validator("sale_ids")
    @classmethod
    def _each_once(cls, sale_ids: tuple[str, ...]) -> tuple[str, ...]:
        if not sale_ids or len(set(sale_ids)) < len(sale_ids):
            raise ValueError("must name one sale or more, each once")
        return sale_ids


class QuotaSettings(RuleSettings):
    """How many places of the page a group of sales takes; pinned sales count."""

    kind: Literal["quota"]
    """What the rule does: quota."""
    match: Condition | None = None
    """The group: a condition over attributes, sale_id, title, price and theme; or give `by`."""
    by: _Text | None = None
    """An attribute, or theme: the sales of each of its values are a group; or give `match`."""
    at_least: int | None = Field(None, ge=1)
    """So many places at least, the last ones if need be."""
    at_most: int | None = Field(None, ge=1)
    """So many places at most."""

    @model_validator(mode="after")
    def _is_quota(self) -> "QuotaSettings":
        if (self.match is None) == (self.by is None):
            raise ValueError("give 'match' or 'by', one of the two")
        if self.at_least is None and self.at_most is None:
            raise ValueError("give 'at_least', 'at_most' or both")
        if self.at_least and self.at_most and self.at_least > self.at_most:
            raise ValueError("'at_least' must not be above 'at_most'")
        return self


class DiversitySettings(RuleSettings):
    """How alike the page may be; sales without a value are alike to none."""

    kind: Literal["diversity"]
    """What the rule does: diversity."""
    by: _Text
    """An attribute, or theme: sales of the same value are alike."""
    at_most: int | None = Field(None, ge=1)
    """So many sales of one value on the page."""
    at_most_in_a_row: int | None = Field(None, ge=1)
    """So many sales of one value one after the other."""

    @model_validator(mode="after")
    def _limits(self) -> "DiversitySettings":
        if self.at_most is None and self.at_most_in_a_row is None:
            raise ValueError("give 'at_most', 'at_most_in_a_row' or both")
        return self


class NewSalesSettings(RuleSettings):
    """Places for sales that have just opened, spread over the page; pinned ones count."""

    kind: Literal["new_sales"]
    """What the rule does: new_sales."""
    share: float = Field(gt=0, le=1)
    """Share of the places, to the nearest whole one; new sale k stands no later than (k - 0.5) / share, rounded up."""
    hours: float | None = Field(None, gt=0)
    """A sale is new for so many hours after it opened; by default if it opened since midnight UTC."""


Rule = Annotated[
    PinSettings | BoostSettings | BurySettings | FilterSettings | QuotaSettings | DiversitySettings | NewSalesSettings,
    Field(discriminator="kind"),
]


class RuleSet(StepSettings):
    """All rules of a shop."""

    schema_version: Literal[1]
    """The form of the file: 1."""
    rules: tuple[Rule, ...] = Field(strict=False)
    """The rules; where two cannot both be met, the earlier one wins."""

    @property
    def fingerprint(self) -> str:
        """What tells rule sets apart: 12 hexadecimal digits, blind to comments, layout and defaults."""
        values = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def load_rules(path: Path) -> RuleSet:
    """Read a file of rules.

    Raises:
        ConfigurationError: Naming file, key, value and rule of everything that is wrong.
    """
    return strict_yaml.load(path, RuleSet, "conf/rules/home.yaml", _repeated_names)


def _repeated_names(content: dict[str, Any]) -> Iterator[str]:
    rules = content.get("rules")
    seen: dict[Any, int] = {}
    for index, each in enumerate(rules if isinstance(rules, list) else []):
        name = each.get("name") if isinstance(each, dict) else None
        if isinstance(name, str) and seen.setdefault(name, index) != index:
            rule = f"must be no other rule's name, rules.{seen[name]} has it"
            yield strict_yaml.problem(f"rules.{index}.name", name, rule)
