"""Pages in short notation: sale i1 is in Italy, s2 in Spain, f3 in France, and x4 has no country."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from recsys.instants import to_micros
from recsys.rules import ArrangedPage, PageRules, RuleSet
from recsys.snapshot.format import SnapshotSale
from serving.answers.top_sales import TopSales

NOW = datetime(2026, 3, 5, 10, tzinfo=UTC)
COUNTRIES = {"i": "Italy", "s": "Spain", "f": "France"}


def sale(sale_id: str, hours_open: float = 30, **values: Any) -> SnapshotSale:
    attributes = {"country": COUNTRIES[sale_id[0]]} if sale_id[0] in COUNTRIES else {}
    opens_at = NOW - timedelta(hours=hours_open)
    return SnapshotSale(sale_id, f"Title {sale_id}", opens_at, NOW + timedelta(days=2), attributes=attributes, **values)


def rule_set(*rules: Mapping[str, Any]) -> RuleSet:
    """Return rules; a rule without a name is named after its kind."""
    return RuleSet.model_validate({"schema_version": 1, "rules": [{"name": rule["kind"], **rule} for rule in rules]})


def ruled(top_sales: TopSales, *rules: Mapping[str, Any]) -> TopSales:
    """Return the state with these rules in force."""
    return replace(top_sales, rules=PageRules(rule_set(*rules), top_sales.snapshot.sales))


def arranged(
    ranked: str | Sequence[SnapshotSale],
    *rules: Mapping[str, Any],
    n: int = 10,
    unranked: str = "",
    closed: str = "",
    surface: str = "home",
    attributes: Mapping[str, str] | None = None,
    now: datetime = NOW,
) -> ArrangedPage:
    """Arrange a page; `unranked` sales are open but not ranked, `closed` sales are not open."""
    sales = [sale(each) for each in ranked.split()] if isinstance(ranked, str) else list(ranked)
    n_ranked = len(sales)
    sales += [sale(each) for each in [*unranked.split(), *closed.split()]]
    is_open = [each.sale_id not in closed.split() for each in sales]
    page_rules = PageRules(rule_set(*rules), sales)
    return page_rules.arrange(range(n_ranked), is_open, n, surface, attributes or {}, to_micros(now))


def shown(page: ArrangedPage, ranked: str, more: str = "") -> str:
    """Return the page as text."""
    sale_ids = [*ranked.split(), *more.split()]
    return " ".join(sale_ids[position] for position in page.sales)
