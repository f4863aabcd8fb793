"""A backtest's estimates, and what they show, as people read them."""

from collections.abc import Mapping
from typing import Any, Literal

from recsys.meta_model import META
from recsys.metrics import NDCG, Estimate
from recsys.reports.wording import UNKNOWN

BOOSTED = "meta_boosted"
RECALL = "recall@10"
Shown = Literal["better", "worse", "no difference shown"]

JOINT = "\N{NO-BREAK SPACE}"
"""In a narrow column an interval stands below its value, in one piece."""
_POLICIES = {
    META: "meta, the mix of all recommenders",
    BOOSTED: "meta_boosted, the mix by boosted trees",
    "collaborative": "collaborative, what users of the same sales also looked at",
    "content_images": "content_images, photos alone",
}


def estimate_of(found: Mapping[str, float | None] | None) -> Estimate | None:
    """Return an estimate of the result; None where there is none."""
    if found is None or any(found.get(key) is None for key in Estimate._fields):
        return None
    return Estimate(*(float(found[key] or 0) for key in Estimate._fields))


def difference(result: Mapping[str, Any], one: str, other: str) -> Estimate | None:
    """Return by how much one policy's ndcg@10 is above another's on the same pages, whichever is named first."""
    paired = result.get(f"paired_{NDCG}") or {}
    found = estimate_of(paired.get(f"{one} - {other}"))
    turned = estimate_of(paired.get(f"{other} - {one}"))
    if found is None and turned is not None:
        return Estimate(-turned.value, -turned.high, -turned.low)
    return found


def ranked(result: Mapping[str, Any]) -> list[str]:
    """Return the policies, best ndcg@10 first."""
    return sorted(result["policies"], key=lambda policy: -result["policies"][policy][NDCG]["value"])


def alone(result: Mapping[str, Any]) -> list[str]:
    """Return the policies that are a single recommender, best ndcg@10 first."""
    return [policy for policy in ranked(result) if policy != META and not policy.startswith((f"{META}_", f"{META}@"))]


def shown(found: Estimate) -> Shown:
    """Say what a difference shows: an interval that holds 0 shows none."""
    if found.low > 0:
        return "better"
    return "worse" if found.high < 0 else "no difference shown"


def plain(found: Estimate | None) -> str:
    """Write a metric with its interval; four decimals, so that a column can be compared."""
    return UNKNOWN if found is None else f"{found.value:.4f} [{found.low:.4f},{JOINT}{found.high:.4f}]"


def signed(found: Estimate | None) -> str:
    """Write a difference with its interval."""
    return UNKNOWN if found is None else f"{found.value:+.4f} [{found.low:+.4f},{JOINT}{found.high:+.4f}]"


def decided(found: Estimate) -> str:
    """Write a difference with its interval and what it shows."""
    return f"{signed(found)}, {shown(found)}"


def policy_in_words(policy: str) -> str:
    """Name a policy to who does not know its name."""
    return _POLICIES.get(policy, policy)


def listed(names: list[str]) -> str:
    """Write names as in a sentence."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
