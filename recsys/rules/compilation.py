"""Compiles the settings of rules to actions on pages of one snapshot."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from recsys.instants import HOUR, to_micros
from recsys.rules.actions import Action, Boost, Bury, Constrain, Filter, Pin, PinnedSale
from recsys.rules.settings import (
    BoostSettings,
    BurySettings,
    DiversitySettings,
    FilterSettings,
    NewSalesSettings,
    PinSettings,
    QuotaSettings,
    Rule,
)
from recsys.rules.tallies import MATCHING, AtLeast, AtMost, AtMostInARow, Constraint, Groups, NewSales
from recsys.snapshot.format import SnapshotSale
from recsys.targeting import Condition, Value
from recsys.wording import did_you_mean, plural


class Compiler:
    """Compiles rules for the sales of one snapshot."""

    def __init__(self, sales: Sequence[SnapshotSale]):
        self.notes: list[str] = []
        """A sentence for each rule that no sale of the snapshot matches, and each name that no sale has."""
        self._opens_at = [to_micros(sale.opens_at) for sale in sales]
        self._index_of = {sale.sale_id: index for index, sale in enumerate(sales)}
        self._values = [_values_of_sale(sale) for sale in sales]
        self._names = {"sale_id", "title", "price", "theme"}.union(*self._values)

    def action(self, rule: Rule) -> Action:
        """Compile a rule."""
        match rule:
            case FilterSettings():
                return Filter(rule.name, self._matching_sales(rule.name, rule.match))
            case BoostSettings():
                return Boost(rule.name, self._matching_sales(rule.name, rule.match), rule.places)
            case BurySettings():
                return Bury(rule.name, self._matching_sales(rule.name, rule.match))
            case PinSettings():
                return Pin(rule.name, self._pinned_sales(rule.name, rule.sale_ids), rule.position - 1)
            case QuotaSettings():
                return Constrain(tuple(self._quota_constraints(rule)))
            case DiversitySettings():
                return Constrain(tuple(self._diversity_constraints(rule)))
            case NewSalesSettings():
                lifetime = None if rule.hours is None else round(rule.hours * HOUR)
                return Constrain((partial(NewSales, rule.name, self._opens_at, rule.share, lifetime),))

    def _quota_constraints(self, rule: QuotaSettings) -> Iterator[Constraint]:
        if rule.match is not None:
            groups = Groups.collected(dict.fromkeys(self._matching_sales(rule.name, rule.match), MATCHING))
        else:
            groups = self._groups_by_value(rule.name, str(rule.by))
        if rule.at_least is not None:
            required = (MATCHING,) if rule.match else ()
            yield partial(AtLeast, rule.name, groups, rule.at_least, required)
        if rule.at_most is not None:
            yield partial(AtMost, rule.name, groups, rule.at_most)

    def _diversity_constraints(self, rule: DiversitySettings) -> Iterator[Constraint]:
        groups = self._groups_by_value(rule.name, rule.by)
        if rule.at_most is not None:
            yield partial(AtMost, rule.name, groups, rule.at_most)
        if rule.at_most_in_a_row is not None:
            yield partial(AtMostInARow, rule.name, groups, rule.at_most_in_a_row)

    def _pinned_sales(self, rule: str, sale_ids: Sequence[str]) -> tuple[PinnedSale, ...]:
        for sale_id in sale_ids:
            if sale_id not in self._index_of:
                self.notes.append(f"Rule {rule!r} pins sale {sale_id!r}, which the snapshot does not have.")
        return tuple(PinnedSale(sale_id, self._index_of.get(sale_id)) for sale_id in sale_ids)

    def _matching_sales(self, rule: str, match: Condition) -> frozenset[int]:
        for name in sorted(match.names - self._names):
            self.notes.append(f"Rule {rule!r} asks for {name!r}, which no sale has{self._end(name)}")
        sales = frozenset(index for index, values in enumerate(self._values) if match.holds(values))
        if not sales:
            self.notes.append(f"Rule {rule!r} matches none of the {plural(len(self._values), 'sale')}.")
        return sales

    def _groups_by_value(self, rule: str, by: str) -> Groups:
        values = enumerate(self._values)
        groups = {index: f"sales of {by} {each[by]!r}" for index, each in values if by in each}
        if not groups:
            sales = plural(len(self._values), "sale")
            self.notes.append(f"Rule {rule!r} is by {by!r}, which none of the {sales} has{self._end(by)}")
        return Groups.collected(groups)

    def _end(self, name: str) -> str:
        return did_you_mean(name, self._names) or "."


def _values_of_sale(sale: SnapshotSale) -> Mapping[str, Value]:
    """Return the values that a condition of a rule may refer to."""
    own = {"sale_id": sale.sale_id, "title": sale.title, "price": sale.price, "theme": sale.theme}
    return {**sale.attributes, **{name: value for name, value in own.items() if value is not None}}
