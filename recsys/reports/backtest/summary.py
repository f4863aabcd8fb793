"""The top of the report: headline, what was measured, key figures and findings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recsys.meta_model import META, version_in
from recsys.metrics import Estimate
from recsys.reports.backtest.model_sections import calibration_finding
from recsys.reports.backtest.sections import ablation_finding, cold_start_finding
from recsys.reports.backtest.wording import (
    BOOSTED,
    NDCG,
    RECALL,
    boosted_advice,
    difference,
    estimate_of,
    finding,
    format_finding,
    is_boosted,
    join_names,
    name_of_peer,
    peers_of,
    single_recommenders,
    weak_cases,
    weakness_advice,
)
from recsys.reports.wording import percent
from recsys.wording import plural


@dataclass(frozen=True)
class Figure:
    """A key figure with its interval."""

    label: str
    value: str
    interval: str
    note: str


@dataclass(frozen=True)
class Summary:
    """The top of the report."""

    headline: str
    tone: Literal["good", "bad", "open"]
    measured: str
    cautions: tuple[str, ...]
    figures: tuple[Figure, ...]
    findings: tuple[str, ...]


def summary(result: Mapping[str, Any]) -> Summary:
    """Summarise whether the meta-model ranks better than single recommenders, and the limits of the measurement."""
    headline, tone = _headline(result)
    return Summary(
        headline,
        tone,
        _scope(result["window"], result["policies"][META]["users"]),
        tuple(_cautions(result["window"])),
        tuple(_figures(result)),
        tuple(_findings(result)),
    )


def _headline(result: Mapping[str, Any]) -> tuple[str, Literal["good", "bad", "open"]]:
    against = {name: found for name in single_recommenders(result) if (found := difference(result, META, name))}
    if ahead := [name_of_peer(peer) for peer, found in _against_peers(result).items() if finding(found) == "worse"]:
        return f"Worse than {join_names(ahead)}", "bad"
    if not against:
        return "Measured without a comparison", "open"
    if weak := [f"{row['best']} among {row['case']}" for row in weak_cases(result)]:
        return f"Worse than {join_names(weak)}", "bad"
    if all(finding(found) == "better" for found in against.values()):
        trees = ", and boosted trees are better still" if boosted_advice(result) else ""
        return f"Better than each recommender alone{trees}", "good"
    unbeaten = [name for name, found in against.items() if finding(found) != "better"]
    stronger = [name for name in unbeaten if finding(against[name]) == "worse"]
    if stronger:
        return f"Worse than {join_names(stronger)}", "bad"
    return f"Not shown to be better than {join_names(unbeaten)}", "open"


def _against_peers(result: Mapping[str, Any]) -> dict[str, Estimate]:
    """Return the difference in ndcg@10 of meta minus each peer, the best peer first."""
    return {peer: found for peer in peers_of(result) if (found := difference(result, META, peer))}


def _scope(window: Mapping[str, Any], users: int) -> str:
    return (
        f"{window['model']}, trained on {window['trained_on']}, ranked {plural(window['pages'], 'page')} of"
        f" {plural(users, 'user')} on {plural(window['days'], 'day')}, {window['from']} to {window['to']}: for each"
        " user with a purchase on a day, the sales open at the first purchase, by what was known at midnight."
    )


def _cautions(window: Mapping[str, Any]) -> Iterator[str]:
    if window.get("note"):
        yield window["note"]
    if window.get("new_only"):
        yield "Sales that a user had bought before are neither ranked nor counted."
    share = window.get("users_sampled", 1)
    if share < 1:
        yield f"Measured on a sample of {percent(share)} of the users, seed {window.get('seed', 0)}."


def _figures(result: Mapping[str, Any]) -> Iterator[Figure]:
    meta = result["policies"][META]
    yield _key_figure(f"{NDCG} of meta", estimate_of(meta[NDCG]), "1 if the bought sales come first")
    yield _key_figure(f"{RECALL} of meta", estimate_of(meta[RECALL]), "share of the bought sales among the first ten")
    best = next(iter(single_recommenders(result)), None)
    found = difference(result, META, best) if best else None
    if found:
        yield Figure(
            f"{NDCG} over {best}, the best single recommender",
            f"{found.value:+.4f}",
            f"{found.low:+.4f} to {found.high:+.4f}",
            f"{finding(found)}, page by page",
        )
    oracle = result.get("oracle") or {}
    yield from filter(None, [_oracle_share(estimate_of(oracle.get("share")), estimate_of(oracle.get(NDCG)))])


def _key_figure(label: str, found: Estimate | None, note: str) -> Figure:
    value, low, high = (f"{each:.4f}" for each in found or (0, 0, 0))
    return Figure(label, value, f"{low} to {high}", note)


def _oracle_share(share: Estimate | None, ndcg: Estimate | None) -> Figure | None:
    if share is None:
        return None
    note = "of ranking by the true tastes" + (f", {NDCG} {ndcg.value:.4f}" if ndcg else "")
    return Figure(
        f"{NDCG} of meta as a share of the oracle's",
        percent(share.value),
        f"{percent(share.low)} to {percent(share.high)}",
        note,
    )


def _findings(result: Mapping[str, Any]) -> Iterator[str]:
    yield from filter(None, [weakness_advice(result)])
    yield from _peers_finding(result)
    yield from _against_versions(result)
    yield from filter(None, [boosted_advice(result)])
    yield from filter(None, (cold_start_finding(result, title) for title in ("history length", "sale age")))
    if result.get("ablation"):
        yield ablation_finding(result)
    yield from filter(None, [calibration_finding(result)])


def _peers_finding(result: Mapping[str, Any]) -> Iterator[str]:
    """Say how meta ranks against the best peer, and how many peers it is ahead of."""
    against = _against_peers(result)
    if not against:
        return
    best, lead = next(iter(against.items()))
    ahead = sum(finding(found) == "better" for found in against.values())
    yield (
        f"Meta minus {name_of_peer(best)}, the best of {plural(len(against), 'peer')}: {NDCG} {format_finding(lead)}. "
        f"Meta is shown to be better than {ahead} of {len(against)}."
    )


def _against_versions(result: Mapping[str, Any]) -> Iterator[str]:
    for other in result["policies"]:
        found = difference(result, META, other)
        if found and version_in(other):
            yield f"Meta minus version {version_in(other)}: {NDCG} {format_finding(found)}."
        elif found and other == BOOSTED and not is_boosted(result):
            yield f"Meta minus boosted trees over the same features: {NDCG} {format_finding(found)}."
