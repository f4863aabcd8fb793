"""The rules of home pages, compiled for the sales of one snapshot."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from recsys.instants import to_micros
from recsys.rules.actions import Action
from recsys.rules.compilation import Compiler
from recsys.rules.draft import ArrangedPage, Draft
from recsys.rules.settings import BoostSettings, BurySettings, FilterSettings, PinSettings, Rule, RuleSet
from recsys.snapshot.format import SnapshotSale
from recsys.targeting import Test

_ORDER = (FilterSettings, BoostSettings, BurySettings, PinSettings)
"""The kinds of rules in the order in which they are applied; the other kinds follow, in the order of the file."""


class _CompiledRule(NamedTuple):
    since: int
    """Microseconds since 1970 UTC, inclusive."""
    until: int
    """Microseconds since 1970 UTC, exclusive."""
    targets: Test | None
    action: Action


class PageRules:
    """The rules compiled for one snapshot; immutable and thread-safe."""

    def __init__(self, rules: RuleSet, sales: Sequence[SnapshotSale]):
        """Compile rules.

        Args:
            rules: All rules of the shop.
            sales: The snapshot's sales; pages are made of indices in this sequence.
        """
        self.rule_set = rules
        """What they were compiled from."""
        compiler = Compiler(sales)
        ordered = sorted(rules.rules, key=_order_of_kind)
        compiled = [(rule.surface, _compile(rule, compiler)) for rule in ordered]
        surfaces = {surface for surface, _ in compiled}
        self.surfaces = surfaces - {None}
        """The surfaces that rules name."""
        self._names = [rule.name for rule in rules.rules]
        self._of_surface = {
            surface: tuple(rule for other, rule in compiled if other in (None, surface))
            for surface in surfaces | {None}
        }
        self.notes = tuple(compiler.notes)
        """A sentence for each rule that no sale of the snapshot matches, and each name that no sale has."""

    def is_active(self, surface: str, now: int) -> bool:
        """Return whether a surface has any rule at an instant, in microseconds since 1970 UTC."""
        return any(rule.since <= now < rule.until for rule in self._rules_of(surface))

    def arrange(
        self,
        ranked: Sequence[int],
        open_sales: Sequence[bool],
        n: int,
        surface: str,
        attributes: Mapping[str, str],
        now: int,
    ) -> ArrangedPage:
        """Apply the rules to a page.

        Args:
            ranked: Indices of all candidate sales, best first, each once, all open.
            open_sales: Whether each sale of the snapshot is open; a sale that is not ranked can be pinned too.
            n: Number of positions on the page, at least 1.
            surface: The name of the page.
            attributes: The attributes of the request, which targeting conditions refer to.
            now: Microseconds since 1970 UTC.

        Returns:
            n sales, or fewer if filters hide too many; deterministic.
        """
        draft = Draft(ranked, open_sales, n, now)
        for since, until, targets, action in self._rules_of(surface):
            if since <= now < until and (targets is None or targets(attributes)):
                action.apply(draft)
        return draft.finished(self._names)

    def _rules_of(self, surface: str) -> tuple[_CompiledRule, ...]:
        return self._of_surface.get(surface, self._of_surface[None])


def _order_of_kind(rule: Rule) -> int:
    return _ORDER.index(type(rule)) if type(rule) in _ORDER else len(_ORDER)


def _compile(rule: Rule, compiler: Compiler) -> _CompiledRule:
    return _CompiledRule(
        since=_micros_or(rule.since, -(1 << 63)),
        until=_micros_or(rule.until, 1 << 63),
        targets=rule.targeting.holds if rule.targeting else None,
        action=compiler.action(rule),
    )


def _micros_or(instant: datetime | None, default: int) -> int:
    return default if instant is None else to_micros(instant)
