"""The top of the report: what was measured, what it shows, and the few figures that decide."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recsys.meta_model import META, version_in
from recsys.metrics import Estimate
from recsys.reports.backtest.model_sections import off
from recsys.reports.backtest.sections import cold, spare
from recsys.reports.backtest.wording import (
    BOOSTED,
    NDCG,
    RECALL,
    alone,
    decided,
    difference,
    estimate_of,
    listed,
    shown,
)
from recsys.reports.wording import percent


@dataclass(frozen=True)
class Figure:
    """A figure that decides, with its interval."""

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
    """Say whether the mix is worth its while, and what to look at before trusting it."""
    headline, tone = _headline(result)
    return Summary(
        headline,
        tone,
        _measured(result["window"], result["policies"][META]["users"]),
        tuple(_cautions(result["window"])),
        tuple(_figures(result)),
        tuple(_findings(result)),
    )


def _headline(result: Mapping[str, Any]) -> tuple[str, Literal["good", "bad", "open"]]:
    against = {name: found for name in alone(result) if (found := difference(result, META, name))}
    if not against:
        return "Measured, compared with nothing", "open"
    if all(shown(found) == "better" for found in against.values()):
        return "Better than each recommender alone", "good"
    unbeaten = [name for name, found in against.items() if shown(found) != "better"]
    stronger = [name for name in unbeaten if shown(against[name]) == "worse"]
    if stronger:
        return f"Worse than {listed(stronger)}", "bad"
    return f"Not shown to be better than {listed(unbeaten)}", "open"


def _measured(window: Mapping[str, Any], users: int) -> str:
    return (
        f"{window['model']}, trained on {window['trained_on']}, ranked {window['pages']:,} pages of {users:,} users on"
        f" {window['days']} days, {window['from']} to {window['to']}: the open sales for each user who bought that day,"
        " by what was known at midnight."
    )


def _cautions(window: Mapping[str, Any]) -> Iterator[str]:
    if window.get("note"):
        yield window["note"]
    if window.get("new_only"):
        yield "Sales that a user had bought before are neither ranked nor counted."
    share = window.get("users_sampled", 1)
    if share < 1:
        yield f"Only {percent(share)} of the users were looked at, drawn by seed {window.get('seed', 0)}."


def _figures(result: Mapping[str, Any]) -> Iterator[Figure]:
    mix = result["policies"][META]
    yield _figure(f"{NDCG} of meta", estimate_of(mix[NDCG]), "1 where all that was bought stands first")
    yield _figure(f"{RECALL} of meta", estimate_of(mix[RECALL]), "of what was bought stood among the first ten")
    best = next(iter(alone(result)), None)
    gain = difference(result, META, best) if best else None
    if gain:
        yield Figure(
            f"{NDCG} over {best}, the best alone",
            f"{gain.value:+.4f}",
            f"{gain.low:+.4f} to {gain.high:+.4f}",
            f"{shown(gain)}, page by page",
        )
    oracle = result.get("oracle") or {}
    yield from filter(None, [_share(estimate_of(oracle.get("share")), estimate_of(oracle.get(NDCG)))])


def _figure(label: str, found: Estimate | None, note: str) -> Figure:
    value, low, high = (f"{each:.4f}" for each in found or (0, 0, 0))
    return Figure(label, value, f"{low} to {high}", note)


def _share(share: Estimate | None, reached: Estimate | None) -> Figure | None:
    if share is None:
        return None
    note = f"which ranks by the true taste: {NDCG} {reached.value:.4f}" if reached else "which ranks by the true taste"
    return Figure("Share of the oracle", percent(share.value), f"{percent(share.low)} to {percent(share.high)}", note)


def _findings(result: Mapping[str, Any]) -> Iterator[str]:
    yield from _against_versions(result)
    yield from filter(None, (cold(result, title) for title in ("history length", "sale age")))
    if result.get("ablation"):
        yield spare(result)
    yield from filter(None, [off(result)])


def _against_versions(result: Mapping[str, Any]) -> Iterator[str]:
    for other in result["policies"]:
        found = difference(result, META, other)
        if found and version_in(other):
            yield f"Against version {version_in(other)}: {NDCG} {decided(found)}."
        elif found and other == BOOSTED:
            yield f"Against boosted trees over the same features: {NDCG} {decided(found)}."
