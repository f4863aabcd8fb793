"""The coefficients of a meta-model, each with a sentence of what its feature is."""

from typing import Any

from recsys.meta_model import LogisticModel, MetaModel

WORDS = {
    "popularity": "How often the sale was visited and bought a day, over the last days.",
    "popularity_day": "The same over the last hours.",
    "popularity_month": "The same over the last weeks.",
    "collaborative": "Whether users who looked at the same sales as this one looked at it too.",
    "collaborative_conditional": "The same as a share of the users of those sales: leans to what many look at.",
    "collaborative_lift": "The same against chance: leans to what few look at.",
    "content_metadata": "How like it is to the user's sales in its attributes and price band.",
    "content_text": "How like it is to the user's sales in title and description.",
    "taste_metadata": "Whether the user looks at its attributes and price band more than others do.",
    "taste_text": "Whether the user looks at sales with its words more than others do.",
    "content_images": "How like its photos are to those of the user's sales.",
    "taste_images": "Whether the user looks at what its photos show more than others do.",
    "own_visits": "The user's own visits of this very sale, lately.",
    "own_purchases": "The user's own purchases of this very sale.",
    "own_recency": "How lately the user bought this very sale.",
    "own_habit": "On how many of the days on which the user bought he bought this very sale.",
    "price_gap": "How far its price is from what the user usually looks at.",
    "hours_open": "How long the sale has been open.",
    "hours_left": "How long it is until the sale closes.",
    "activity": "How much is known of the user; the same for all sales.",
}
"""Every feature there is; a feature is the logarithm of what it counts, against its mean over the open sales."""


def coefficients(model: MetaModel) -> list[dict[str, Any]]:
    """Return log-odds per standard deviation of each feature, in the order of the model; of trees, shares of gain.

    `first` is for sales that the user has not bought before; `again`, for those that he has, where the model has
    weights of their own for them.
    """
    rows = [{"feature": name, "words": WORDS[name], "first": value} for name, value in model.strengths.items()]
    if isinstance(model, LogisticModel) and model.again:
        rows = [row | {"again": value} for row, value in zip(rows, model.again.coefficients, strict=True)]
    return rows
