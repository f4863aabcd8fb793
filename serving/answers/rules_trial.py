"""What rules would change on the pages that a snapshot answers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from recsys.instants import HOUR
from recsys.rules import ArrangedPage, PageRules, RuleSet
from recsys.rules.dry_run import Trial, compare, summed_up
from recsys.snapshot.format import Snapshot
from serving.answers.pages import PageRequest
from serving.answers.top_sales import TopSales

_MORNING = 10 * HOUR


class PageKind(NamedTuple):
    """Which pages are looked at."""

    policy: str
    n: int
    surface: str
    attributes: Mapping[str, str]


def rules_trial(
    snapshot: Snapshot, rules: RuleSet, users: Sequence[str], kind: PageKind, now: int | None = None
) -> Trial:
    """Answer users' pages with and without rules, as the service would.

    Args:
        snapshot: What answers.
        rules: What is tried.
        users: Whose pages.
        kind: Which pages.
        now: Instant of the pages; 10 hours after the snapshot's `as_of` by default.

    Raises:
        ConfigurationError: If the snapshot has no such policy.
    """
    plain = TopSales.of(snapshot)
    ruled = replace(plain, rules=PageRules(rules, snapshot.sales))
    instant = plain.as_of + _MORNING if now is None else now
    changes = []
    for user_id in users:
        request = PageRequest(user_id, kind.policy, kind.n, kind.surface, kind.attributes)
        before = plain.answer(request, instant, "trial").page
        after = ruled.answer(request, instant, "trial").page
        rule_at = list(after.rule_at) or [None] * len(after.picks)
        arranged = ArrangedPage([pick[0] for pick in after.picks], rule_at, list(after.rules), list(after.notes))
        changes.append(compare(user_id, [pick[0] for pick in before.picks], arranged, plain.sale_ids))
    return summed_up(changes)
