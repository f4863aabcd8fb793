"""The glossary of a backtest's report: each term in one sentence."""

from collections.abc import Iterator, Mapping
from typing import Any

from recsys.reports.backtest.wording import is_boosted


def terms(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the definition of each term that the report of a result uses."""
    return dict((*_terms_of_metrics(), *_terms_of_sections(result)))


def _terms_of_metrics() -> Iterator[tuple[str, str]]:
    yield (
        "Page",
        "the sales open at a user's first purchase of a day, as ranked for that user by what was known at midnight.",
    )
    yield "Policy", "a way to rank a page: a single recommender, or the meta-model (meta), which combines all of them."
    yield (
        "ndcg@10",
        "normalised discounted cumulative gain: how high the bought sales rank among the first ten; 1 is best.",
    )
    yield "recall@10", "the share of the bought sales that are among the first ten."
    yield "hit_rate@10", "the share of pages with at least one bought sale among the first ten."
    yield "mrr", "mean reciprocal rank: 1 divided by the position of the first bought sale, averaged over pages."
    yield (
        "Interval",
        "the 95% confidence interval: 95% of intervals made this way contain the true value. Bootstrapped over users.",
    )
    yield "Paired", "two policies are compared on the same pages, so that easy and difficult pages cancel out."
    yield (
        "Shown",
        "a difference is shown if its interval does not contain 0; by chance, 1 in 20 is shown where there is none.",
    )


def _terms_of_sections(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if any("coverage" in measured for measured in result["policies"].values()):
        yield "Coverage", "the share of the open sales that were on at least one page."
        yield (
            "Gini",
            "Gini coefficient: how unequally sales are shown. 0: all equally often; 1: a single sale on all pages.",
        )
        yield (
            "Novelty",
            "how little known the shown sales are, in bits; one bit more means half as many users who know them.",
        )
    if result.get("oracle"):
        yield "Oracle", "the ranking by the users' true tastes, the best possible; known for a generated shop only."
    if result.get("ablation"):
        yield "Ablation", "measuring the meta-model without a recommender, to see what the recommender contributes."
    if result.get("calibration"):
        yield "Calibration", "whether 2% of the sales with a predicted probability of 2% are bought."
        yield "Decile", "a tenth of the sales open at a purchase, by predicted probability, lowest first."
        yield (
            "Relative error",
            "predicted over observed purchases, minus 1: positive if the probabilities are too high.",
        )
        yield "AUC", "how often a bought sale has a higher probability than one that was not bought; 0.5 by chance."
        yield "Log-loss", "the mean negative logarithm of the probability given to what happened; lower is better."
    if result.get("coefficients") and not is_boosted(result):
        yield (
            "Log-odds",
            "the scale on which the meta-model adds its features; +0.69 doubles the odds, -0.69 halves them.",
        )
        yield "Standard deviation", "how far a feature typically is from its mean; it makes coefficients comparable."
