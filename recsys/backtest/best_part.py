"""The mix against its best part: the meta-model minus the best single recommender, of all sales and by case."""

from typing import Any

import numpy as np

from recsys.backtest.pages import Pages, estimated
from recsys.metrics import NDCG
from recsys.pipeline.evaluation import NEW_NDCG, REPEAT_NDCG

CASES = {"all sales": NDCG, "sales new to the user": NEW_NDCG, "repeat purchases": REPEAT_NDCG}
"""Each case with its column of table `page_metrics`: which sales of a page are ranked and counted."""
FEWEST_PAGES = 30
"""A case of fewer pages is left out: a bootstrap interval over so few users is too narrow."""


def against_best_part(pages: Pages, mix: str, parts: list[str], seed: int) -> list[dict[str, Any]]:
    """Return how a mix ranks against the best of its parts, for each case with at least FEWEST_PAGES pages.

    Args:
        pages: The pages.
        mix: The policy that ranks by all parts.
        parts: The policies that are single recommenders.
        seed: Seed of the intervals.

    Returns:
        For each case its name, the number of `pages`, the best part by mean ndcg@10 on them, `best`, and the estimated
        `difference` in ndcg@10, mix minus best part on the same pages.
    """
    rows = []
    for case, column in CASES.items() if parts else ():
        ndcg = pages.metric(column, [mix, *parts])
        inside = np.isfinite(ndcg[mix])
        if inside.sum() < FEWEST_PAGES:
            continue
        best = max(parts, key=lambda part: ndcg[part][inside].mean())
        difference = {NDCG: ndcg[mix][inside] - ndcg[best][inside]}
        found = estimated(difference, pages.users[inside], seed)[NDCG]
        rows.append({"case": case, "pages": int(inside.sum()), "best": best, "difference": found})
    return rows
