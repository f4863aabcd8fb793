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
"""The kinds in the order in which they are applied; all others come after them, in the order of the file."""


class _CompiledRule(NamedTuple):
    since: int
    """Microseconds since 1970 UTC, included."""
    until: int
    """Excluded."""
    targets: Test | None
    action: Action


class PageRules:
    """The rules for one snapshot, immutable: any number of threads may arrange pages."""

    def __init__(self, rules: RuleSet, sales: Sequence[SnapshotSale]):
        """Compile rules.

        Args:
            rules: All rules of the shop.
            sales: The snapshot's sales; pages hold positions in them.
        """
        self.rule_set = rules
        """What they were compiled from."""
        compiler = Compiler(sales)
        ordered = sorted(rules.rules, key=_phase)
        compiled = [(rule.surface, _compiled(rule, compiler)) for rule in ordered]
        surfaces = {surface for surface, _ in compiled}
        self._names = [rule.name for rule in rules.rules]
        self._of_surface = {
            surface: tuple(rule for other, rule in compiled if other in (None, surface))
            for surface in surfaces | {None}
        }
        self.notes = tuple(compiler.notes)
        """A sentence for each rule that names what no sale of the snapshot has."""

    def is_active(self, surface: str, now: int) -> bool:
        """Tell whether a page may have rules at an instant, in microseconds since 1970 UTC."""
        return any(rule.since <= now < rule.until for rule in self._of(surface))

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
            ranked: Positions of all candidate sales, best first, each once, all open.
            open_sales: Whether each sale of the snapshot is open: a pin needs no rank.
            n: Places of the page, at least 1.
            surface: What page it is.
            attributes: What targeting sees of the request.
            now: Microseconds since 1970 UTC.

        Returns:
            n sales, or as many as filters leave; the same for the same arguments.
        """
        draft = Draft(ranked, open_sales, n, now)
        for since, until, targets, action in self._of(surface):
            if since <= now < until and (targets is None or targets(attributes)):
                action.apply(draft)
        return draft.finished(self._names)

    def _of(self, surface: str) -> tuple[_CompiledRule, ...]:
        return self._of_surface.get(surface, self._of_surface[None])


def _phase(rule: Rule) -> int:
    return _ORDER.index(type(rule)) if type(rule) in _ORDER else len(_ORDER)


def _compiled(rule: Rule, compiler: Compiler) -> _CompiledRule:
    return _CompiledRule(
        since=_micros(rule.since, -(1 << 63)),
        until=_micros(rule.until, 1 << 63),
        targets=rule.targeting.holds if rule.targeting else None,
        action=compiler.action(rule),
    )


def _micros(instant: datetime | None, default: int) -> int:
    return default if instant is None else to_micros(instant)
