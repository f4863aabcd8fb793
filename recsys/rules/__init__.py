"""Rules that the shop's staff write for home pages: their settings, their application, and a dry run."""

from recsys.rules.draft import ArrangedPage
from recsys.rules.dry_run import PageChange, Trial, compare, summed_up
from recsys.rules.page_rules import PageRules
from recsys.rules.settings import RuleSet, load_rules
from recsys.targeting import Condition

__all__ = [
    "ArrangedPage",
    "Condition",
    "PageChange",
    "PageRules",
    "RuleSet",
    "Trial",
    "compare",
    "load_rules",
    "summed_up",
]
