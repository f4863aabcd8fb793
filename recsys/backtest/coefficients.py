"""The coefficients of a meta-model, each with a sentence that describes its feature."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from recsys.meta_model import LogisticModel, MetaModel

WORDS = {
    "popularity": "Visits and purchases of the sale per day, over the last days.",
    "popularity_day": "Visits and purchases of the sale per day, over the last hours.",
    "popularity_month": "Visits and purchases of the sale per day, over the last weeks.",
    "collaborative": "Similarity to the user's sales by users in common (cosine).",
    "collaborative_conditional": "The share of the users of the user's sales who looked at it: favours popular sales.",
    "collaborative_lift": "Users in common with the user's sales against chance: favours sales with few users.",
    "content_metadata": "Similarity to the user's sales in attributes and price band.",
    "content_text": "Similarity to the user's sales in title and description.",
    "taste_metadata": "How much more than others the user looks at sales with its attributes and price band.",
    "taste_text": "How much more than others the user looks at sales with its words.",
    "content_images": "Similarity of its photos to those of the user's sales.",
    "taste_images": "How much more than others the user looks at what its photos show.",
    "towers": "How well it agrees with all that the user looked at, as learnt from what users looked at next.",
    "own_visits": "The user's own recent visits of this sale.",
    "own_purchases": "The user's own purchases of this sale.",
    "own_recency": "How recently the user bought this sale.",
    "own_habit": "The share of the user's days with a purchase on which this sale was bought.",
    "price_gap": "The distance of its price from the prices that the user usually looks at.",
    "hours_open": "Time since the sale opened.",
    "hours_left": "Time until the sale closes.",
    "activity": "How many events of the user are known; the same for all sales.",
}
"""A description of every feature. A feature is the logarithm of what it counts, minus its mean over the open sales."""


def coefficients(model: MetaModel, further: Mapping[str, str] = MappingProxyType({})) -> list[dict[str, Any]]:
    """Return the coefficient of each feature, in the order of the model.

    Of a logistic regression, in log-odds one standard deviation above the mean: `first`, for sales that the user never
    bought before, and `repeat`, for repeat purchases, where the model has separate coefficients for them. Boosted trees
    have no coefficients: `gain` is the feature's share of the gain of all splits.

    Args:
        model: The model.
        further: A description of each feature of the shop's own.
    """
    described = {**WORDS, **further}
    key = "first" if isinstance(model, LogisticModel) else "gain"
    rows = [
        {"feature": name, "words": described.get(name, ""), key: value}
        for name, value in model.coefficients_by_feature.items()
    ]
    if isinstance(model, LogisticModel) and model.repeat:
        repeat = model.repeat_coefficients_by_feature
        rows = [row | {"repeat": value} for row, value in zip(rows, repeat.values(), strict=True)]
    return rows
