"""Estimates and findings of a backtest in words."""

from collections.abc import Mapping
from typing import Any, Literal

from recsys.meta_model import META
from recsys.metrics import NDCG, Estimate
from recsys.reports.wording import UNKNOWN
from recsys.wording import plural

BOOSTED = "meta_boosted"
RECALL = "recall@10"
Finding = Literal["better", "worse", "no difference shown"]

_PEER, _LIVE = "peer_", "live_"
"""Before the names of policies that one could pick instead."""
JOINT = "\N{NO-BREAK SPACE}"
"""Keeps an interval in one line, below its value in a narrow column."""
_POLICIES = {
    META: "meta, the meta-model over all recommenders",
    BOOSTED: "meta_boosted, boosted trees over all recommenders",
    "collaborative": "collaborative, sales that similar users looked at",
    "content_images": "content_images, sales with similar photos",
}


def estimate_of(found: Mapping[str, float | None] | None) -> Estimate | None:
    """Return an estimate of the result; None where it is absent or incomplete."""
    if found is None or any(found.get(key) is None for key in Estimate._fields):
        return None
    return Estimate(*(float(found[key] or 0) for key in Estimate._fields))


def difference(result: Mapping[str, Any], one: str, other: str) -> Estimate | None:
    """Return one policy's ndcg@10 minus another's on the same pages, whichever order the result has them in."""
    paired = result.get(f"paired_{NDCG}") or {}
    found = estimate_of(paired.get(f"{one} - {other}"))
    reverse = estimate_of(paired.get(f"{other} - {one}"))
    if found is None and reverse is not None:
        return Estimate(-reverse.value, -reverse.high, -reverse.low)
    return found


def policies_by_ndcg(result: Mapping[str, Any]) -> list[str]:
    """Return the policies, best ndcg@10 first."""
    return sorted(result["policies"], key=lambda policy: -result["policies"][policy][NDCG]["value"])


def single_recommenders(result: Mapping[str, Any]) -> list[str]:
    """Return the policies that are a single recommender, best ndcg@10 first."""
    return [
        policy
        for policy in policies_by_ndcg(result)
        if policy != META and not policy.startswith((f"{META}_", f"{META}@", _PEER, _LIVE))
    ]


def peers_of(result: Mapping[str, Any]) -> list[str]:
    """Return the policies that are peers, best ndcg@10 first."""
    return [policy for policy in policies_by_ndcg(result) if policy.startswith(_PEER)]


def name_of_peer(policy: str) -> str:
    """Return the name of a peer, as people know it."""
    return policy.removeprefix(_PEER)


def finding(found: Estimate) -> Finding:
    """Return what a difference shows: an interval that contains 0 shows no difference."""
    if found.low > 0:
        return "better"
    return "worse" if found.high < 0 else "no difference shown"


def weak_cases(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the cases in which the meta-model is shown to rank worse than its best single recommender."""
    return [row for row in result.get("best_part") or () if finding(Estimate(**row["difference"])) == "worse"]


def weakness_advice(result: Mapping[str, Any]) -> str:
    """Say where the meta-model ranks worse than its best part, by how much, and what to try; empty if nowhere."""
    cases = [
        f"worse than {row['best']} alone among {row['case']}: {NDCG}"
        f" {format_difference(Estimate(**row['difference']))} on {plural(row['pages'], 'page')}"
        for row in weak_cases(result)
    ]
    if not cases:
        return ""
    return (
        f"The meta-model ranks {join_names(cases)}. Try another 'meta_model.kind', more 'meta_model.negatives' or more"
        " 'meta_model.days', measure each with 'recsys backtest' on earlier days, and promote what ranks better."
    )


def format_metric(found: Estimate | None) -> str:
    """Write a metric with its interval, to four decimals so that the values of a column can be compared."""
    return UNKNOWN if found is None else f"{found.value:.4f} [{found.low:.4f},{JOINT}{found.high:.4f}]"


def format_difference(found: Estimate | None) -> str:
    """Write a difference with its interval, to four decimals and with signs."""
    return UNKNOWN if found is None else f"{found.value:+.4f} [{found.low:+.4f},{JOINT}{found.high:+.4f}]"


def format_finding(found: Estimate) -> str:
    """Write a difference with its interval and what it shows."""
    return f"{format_difference(found)}, {finding(found)}"


def policy_in_words(policy: str) -> str:
    """Return a policy's name with a description, where there is one."""
    return _POLICIES.get(policy, policy)


def join_names(names: list[str]) -> str:
    """Write names as a list in a sentence: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def is_boosted(result: Mapping[str, Any]) -> bool:
    """Return whether the measured meta-model is boosted trees."""
    return any("gain" in row for row in result.get("coefficients") or ())


def boosted_advice(result: Mapping[str, Any]) -> str:
    """Say how to use boosted trees if they rank better than the meta-model; empty if that is not shown."""
    found = difference(result, BOOSTED, META)
    if found is None or finding(found) != "better" or is_boosted(result):
        return ""
    return (
        f"Boosted trees rank better than the meta-model here, by {format_difference(found)} of {NDCG}. To use them, set"
        " 'meta_model.kind: boosted' in the configuration, train a version with 'recsys nightly --train', measure it on"
        " later days with 'recsys backtest', and promote it with 'recsys models promote'."
    )
