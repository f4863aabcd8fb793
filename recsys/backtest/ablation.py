"""Ablation and learning curve: models of fewer features or training days, measured on the same pages."""

from typing import Any

import numpy as np

from recsys.backtest.pages import Pages, estimated
from recsys.meta_model.training import Examples
from recsys.metrics import NDCG
from recsys.snapshot.format import POPULARITY

MAX_EXAMPLES = 100_000
"""At most this many training examples are sampled for the models of an ablation, two per feature: the 35 models of 17
features take 3 s on one core with 92,000 examples. A learning curve over these was flat from 14,000 on."""
SHARES_OF_DAYS = (1 / 8, 1 / 4, 1 / 2, 1)

ALL_FEATURES, POPULARITY_ONLY = "ablation: all features", f"ablation: {POPULARITY} only"


def without(feature: str) -> str:
    """Return the name of the policy that ranks by all features but one."""
    return f"ablation: without {feature}"


def beside_popularity(feature: str) -> str:
    """Return the name of the policy that ranks by popularity and one feature."""
    return f"ablation: {POPULARITY} and {feature}"


def of_last_days(days: int) -> str:
    """Return the name of the policy that ranks by a model of the last n training days."""
    return f"learning curve: {days} days"


def is_variant(policy: str) -> bool:
    """Return whether a policy belongs to an ablation or a learning curve; such policies are not compared by name."""
    return policy.startswith(("ablation: ", "learning curve: "))


def ablated_features(names: list[str]) -> dict[str, list[str]]:
    """Return the features of each model of an ablation by the name of its policy."""
    others = [name for name in names if name != POPULARITY]
    return {
        ALL_FEATURES: names,
        **{without(each): [name for name in names if name != each] for each in names if len(names) > 1},
        POPULARITY_ONLY: [POPULARITY],
        **{beside_popularity(each): [POPULARITY, each] for each in others},
    }


def drawn(examples: Examples, seed: int) -> Examples:
    """Sample at most MAX_EXAMPLES examples uniformly, so that probabilities stay as they are."""
    if len(examples.bought) <= MAX_EXAMPLES:
        return examples
    chosen = np.zeros(len(examples.bought), bool)
    chosen[np.random.default_rng(seed).choice(len(chosen), MAX_EXAMPLES, replace=False)] = True
    return examples.where(chosen)


def learning_days(n_days: int) -> list[int]:
    """Return the number of training days of each point of a learning curve, ascending; the last is all of them."""
    return sorted({max(round(share * n_days), 1) for share in SHARES_OF_DAYS})


def ablation(pages: Pages, features: list[str], seed: int) -> list[dict[str, Any]]:
    """Return what each feature contributes to ndcg@10, in the order of the model.

    Returns:
        `alone`, the ndcg@10 of the recommender by itself, None if it scores all sales of a page alike; `added`, the
        increase from a meta-model over popularity to one over popularity and the feature, 0 for popularity itself;
        `removed`, the decrease from a meta-model over all features to one without the feature. All these models are
        trained on the same examples.
    """
    ndcg = pages.metric(NDCG, [*features, *ablated_features(features)])
    values = {}
    for name in features:
        beside = beside_popularity(name) if name != POPULARITY else POPULARITY_ONLY
        rest = without(name) if len(features) > 1 else ALL_FEATURES
        if pages.has_order(name):
            values[name, "alone"] = ndcg[name]
        values[name, "added"] = ndcg[beside] - ndcg[POPULARITY_ONLY]
        values[name, "removed"] = ndcg[ALL_FEATURES] - ndcg[rest]
    found = estimated(values, pages.users, seed)
    return [
        {"feature": name} | {part: found.get((name, part)) for part in ("alone", "added", "removed")}
        for name in features
    ]


def learning_curve(pages: Pages, points: list[tuple[str, int, int]], seed: int) -> list[dict[str, Any]]:
    """Return the ndcg@10 of models by number of training days.

    Args:
        pages: The pages.
        points: Policy, training days and examples of each model, fewest days first.
        seed: Seed of the intervals.
    """
    found = estimated(pages.metric(NDCG, [policy for policy, _, _ in points]), pages.users, seed)
    return [{"days": days, "examples": examples, NDCG: found[policy]} for policy, days, examples in points]
