"""Each statistical word of the report in one plain line."""

from collections.abc import Iterator, Mapping
from typing import Any


def terms(result: Mapping[str, Any]) -> dict[str, str]:
    """Explain the words that the report of a result uses."""
    return dict((*_of_metrics(), *_of_parts(result)))


def _of_metrics() -> Iterator[tuple[str, str]]:
    yield (
        "Page",
        "the open sales as one user would have seen them at his first purchase of a day, ranked as of midnight.",
    )
    yield "Policy", "a way to rank them: one recommender, or the meta-model (meta), which mixes all of them."
    yield (
        "ndcg@10",
        "how high what was bought stands among the first ten; 1 is best, a purchase further down counts less.",
    )
    yield "recall@10", "the share of what was bought that stands among the first ten."
    yield "hit_rate@10", "the share of pages with at least one bought sale among the first ten."
    yield "mrr", "1 divided by the place of the first bought sale, on average over pages."
    yield (
        "Interval",
        "values that fit the data: of intervals made so, 95% hold the true one. Made by drawing users again and again.",
    )
    yield "Paired", "two policies compared on the same pages, so that easy and hard pages cancel out."
    yield (
        "Shown",
        "a difference whose interval leaves out 0. Of 20 that are none, one looks so by chance.",
    )


def _of_parts(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if any("coverage" in measured for measured in result["policies"].values()):
        yield "Coverage", "the share of the sales on offer that stood on at least one page."
        yield "Gini", "how unequally pages are shared among sales: 0 is all alike, 1 is one sale on all pages."
        yield "Novelty", "how little known the shown sales are; each bit more is half as many users who know them."
    if result.get("oracle"):
        yield "Oracle", "the ranking by the users' true taste, known on a generated shop alone: nothing can be better."
    if result.get("ablation"):
        yield "Ablation", "leaving out one recommender, or having it alone, to see what it is worth."
    if result.get("calibration"):
        yield "Calibration", "whether of the sales given a probability of 2%, 2% are bought."
        yield "Tenth", "a tenth of all sales shown to buyers, by predicted probability, least probable first."
        yield "AUC", "how often a bought sale has a higher probability than one that was not bought; 0.5 is chance."
        yield "Log-loss", "how surprised the probabilities are by what was bought; less is better."
    if result.get("coefficients"):
        yield "Log-odds", "the scale on which the meta-model adds up; +0.69 doubles the odds, -0.69 halves them."
        yield "Standard deviation", "how far a feature usually is from its mean; it makes features comparable."
