"""Shows how rules would change the pages of a snapshot."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from recsys.config.serving import PageSettings
from recsys.errors import ConfigurationError
from recsys.instants import HOUR, format_instant
from recsys.rules import ArrangedPage, PageRules, RuleSet
from recsys.rules.dry_run import Trial, compare, summed_up
from recsys.snapshot.format import Snapshot
from serving.answers.pages import PageRequest
from serving.answers.top_sales import TopSales

_MORNING = 10 * HOUR


class PageKind(NamedTuple):
    """The pages that are compared with and without rules."""

    policy: str
    n: int
    surface: str
    attributes: Mapping[str, str]


def rules_trial(
    snapshot: Snapshot,
    rules: RuleSet,
    users: Sequence[str],
    kind: PageKind,
    now: int | None = None,
    settings: PageSettings | None = None,
) -> Trial:
    """Compare users' pages with and without rules, made as the service makes them.

    Args:
        snapshot: The snapshot to answer from.
        rules: The rules to try.
        users: The ids of the users.
        kind: The policy, length, surface and attributes of the pages.
        now: The instant of the pages, in microseconds since 1970 UTC; by default 10 hours after the snapshot's `as_of`.
        settings: What every page says and leaves out; the defaults if None.

    Raises:
        ConfigurationError: If the snapshot has no such policy, or its horizon does not hold the instant.
    """
    plain = TopSales.of(snapshot, settings=settings)
    ruled = replace(plain, rules=PageRules(rules, snapshot.sales))
    start, end = plain.as_of, plain.horizon_end
    instant = min(start + _MORNING, end - 1) if now is None else now
    if not start <= instant < end:
        horizon = f"from {format_instant(start)} to {format_instant(end)} (excluded)"
        raise ConfigurationError(f"instant == {format_instant(instant)}, must be in the snapshot's horizon, {horizon}")
    changes = []
    for user_id in users:
        request = PageRequest(user_id, kind.policy, kind.n, kind.surface, kind.attributes)
        before = plain.answer(request, instant, "trial").page
        after = ruled.answer(request, instant, "trial").page
        rule_at = list(after.rule_at) or [None] * len(after.picks)
        arranged = ArrangedPage([pick[0] for pick in after.picks], rule_at, list(after.rules), list(after.notes))
        changes.append(compare(user_id, [pick[0] for pick in before.picks], arranged, plain.sale_ids))
    return summed_up(changes)
