"""The file of rules that the shop's staff write for home pages: an ordered list, typed and strict.

If two rules cannot both be met, the earlier one in the list wins. Whatever the order of the list, rules are applied in
this order: filters, boosts, buries, pins, and then one pass from the first position to the last for quotas, new sales
and diversity. Filters and pins are always met; the others are relaxed, with a note, rather than leave a position empty.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from recsys.config import strict_yaml
from recsys.instants import Instant
from recsys.settings import StepSettings
from recsys.targeting import Condition

_Text = Annotated[str, Field(min_length=1)]


class RuleSettings(StepSettings):
    """The settings that all rules have."""

    name: str = Field(pattern="^[a-z][a-z0-9_]*$", max_length=60)
    """Its name in answers and reports: lower-case letters, digits and _."""
    surface: _Text | None = None
    """The page that the rule is for, such as home; every page by default."""
    targeting: Condition | None = None
    """A condition on the request's attributes, such as {market: France}; every request by default."""
    since: Instant | None = Field(None, alias="from")
    """The rule applies from this instant on (inclusive); by default without a start."""
    until: Instant | None = None
    """The rule applies up to this instant (exclusive); by default without an end."""

    @field_validator("until")
    @classmethod
    def _after_since(cls, until: Instant | None, info: ValidationInfo) -> Instant | None:
        since = info.data.get("since")
        if since and until and until <= since:
            raise ValueError(f"must be after 'from', {since.isoformat()}")
        return until


class FilterSettings(RuleSettings):
    """Hides sales from all pages, whatever other rules say, even if positions stay empty."""

    kind: Literal["filter"]
    """The kind of rule: filter."""
    match: Condition
    """Which sales: a condition on attributes, sale_id, title, price and theme."""


class BoostSettings(RuleSettings):
    """Moves sales up by a number of positions, independent of scores, whose scale differs between policies."""

    kind: Literal["boost"]
    """The kind of rule: boost."""
    match: Condition
    """Which sales: a condition on attributes, sale_id, title, price and theme."""
    places: int = Field(ge=1)
    """Number of positions up; matching sales stay in order, so one never passes another."""


class BurySettings(RuleSettings):
    """Moves sales behind all others, boosted or not: they are shown only if no others are left."""

    kind: Literal["bury"]
    """The kind of rule: bury."""
    match: Condition
    """Which sales: a condition on attributes, sale_id, title, price and theme."""


class PinSettings(RuleSettings):
    """Puts sales at fixed positions; a closed, unknown or filtered sale is skipped, and the next one moves up."""

    kind: Literal["pin"]
    """The kind of rule: pin."""
    sale_ids: tuple[_Text, ...] = Field(strict=False)
    """The sales, the first at `position` and the others after it; a position that is taken is skipped."""
    position: int = Field(ge=1)
    """The position of the first sale, counted from 1."""

    @field_validator("sale_ids")
    @classmethod
    def _each_once(cls, sale_ids: tuple[str, ...]) -> tuple[str, ...]:
        if not sale_ids or len(set(sale_ids)) < len(sale_ids):
            raise ValueError("must name one sale or more, each once")
        return sale_ids


class QuotaSettings(RuleSettings):
    """Limits the number of sales of a group on the page; pinned sales count."""

    kind: Literal["quota"]
    """The kind of rule: quota."""
    match: Condition | None = None
    """The group: a condition on attributes, sale_id, title, price and theme; give this or `by`."""
    by: _Text | None = None
    """An attribute, or theme: the sales of each of its values are a group; give this or `match`."""
    at_least: int | None = Field(None, ge=1)
    """Fewest sales of a group on the page; they get the last positions if their rank is lower."""
    at_most: int | None = Field(None, ge=1)
    """Most sales of a group on the page."""

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
    """Limits the number of similar sales on the page; sales without a value are not limited."""

    kind: Literal["diversity"]
    """The kind of rule: diversity."""
    by: _Text
    """An attribute, or theme: sales with the same value are similar."""
    at_most: int | None = Field(None, ge=1)
    """Most sales with one value on the page."""
    at_most_in_a_row: int | None = Field(None, ge=1)
    """Most sales with one value at successive positions."""

    @model_validator(mode="after")
    def _has_limit(self) -> "DiversitySettings":
        if self.at_most is None and self.at_most_in_a_row is None:
            raise ValueError("give 'at_most', 'at_most_in_a_row' or both")
        return self


class NewSalesSettings(RuleSettings):
    """Reserves positions, spread over the page, for sales that opened recently; pinned sales count."""

    kind: Literal["new_sales"]
    """The kind of rule: new_sales."""
    share: float = Field(gt=0, le=1)
    """Share of the positions, rounded; new sale k is at position ceil((k - 0.5) / share) or above."""
    hours: float | None = Field(None, gt=0)
    """A sale is new for this many hours after it opened; by default if it opened since midnight UTC."""


Rule = Annotated[
    PinSettings | BoostSettings | BurySettings | FilterSettings | QuotaSettings | DiversitySettings | NewSalesSettings,
    Field(discriminator="kind"),
]


class RuleSet(StepSettings):
    """All rules of a shop."""

    schema_version: Literal[1]
    """The version of the file format: 1."""
    rules: tuple[Rule, ...] = Field(strict=False)
    """The rules; if two cannot both be met, the earlier one wins."""

    @property
    def fingerprint(self) -> str:
        """A hash of the contents, 12 hexadecimal digits, independent of comments, layout and stated defaults."""
        values = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def load_rules(path: Path) -> RuleSet:
    """Read a file of rules.

    Raises:
        ConfigurationError: If the file breaks a rule; the message gives file, key, value and rule of each problem.
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
