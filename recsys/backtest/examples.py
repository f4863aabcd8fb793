"""Example users of a backtest: what was known of them, what each policy showed them, what they bought."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from recsys.backtest.pages import Pages
from recsys.instants import from_micros
from recsys.meta_model import META
from recsys.recommenders.content import IMAGES
from recsys.shop.catalogue import Catalogue
from recsys.shop.histories import Block, HistorySettings

EXAMPLES, VISITED = 10, 8
SHOWN_POLICIES = ("collaborative", IMAGES, META)


def example_pages(pages: Pages, seed: int) -> pd.DataFrame:
    """Sample one page each of at most ten users with known events, ordered by day and user."""
    known = pages.any[pages.any["known_events"] > 0]
    shuffled = known.iloc[np.random.default_rng(seed).permutation(len(known))]
    drawn = shuffled.drop_duplicates("user_id").head(EXAMPLES)
    return drawn.sort_values(["as_of", "user_id"])


def examples(
    drawn: pd.DataFrame, pages: Pages, users: Block, catalogue: Catalogue, history: HistorySettings
) -> list[dict[str, Any]]:
    """Describe sampled pages.

    Args:
        drawn: From `example_pages`.
        pages: All pages.
        users: The users of the sampled pages.
        catalogue: All sales.
        history: Which events of a user count as known.

    Returns:
        For each page: user_id, as_of, the number of known events, the sales visited last, those of them bought before,
        the sales bought on that day, and the page by policy; sales by their ids.
    """
    row_of = {user_id: row for row, user_id in enumerate(users.user_ids.to_pylist())}
    policies = [policy for policy in SHOWN_POLICIES if policy in pages.by_policy]
    shown = {policy: pages.by_policy[policy].set_index(["as_of", "user_id"])["shown"] for policy in policies}
    columns = (drawn[name].to_list() for name in ("as_of", "user_id", "known_events", "bought"))
    return [
        {
            "user_id": user_id,
            "as_of": f"{from_micros(as_of):%Y-%m-%d}",
            "events": events,
            **_known_sales(users.take(np.array([row_of[user_id]])), as_of, catalogue, history),
            "bought": _ids(catalogue, bought),
            "pages": {policy: _ids(catalogue, each[as_of, user_id]) for policy, each in shown.items()},
        }
        for as_of, user_id, events, bought in zip(*columns, strict=True)
    ]


def _known_sales(user: Block, as_of: int, catalogue: Catalogue, history: HistorySettings) -> dict[str, list[str]]:
    """Return the sales of a user's latest events, newest first, and those of them that the user had bought."""
    known = user.as_of(as_of, history)
    visited = list(dict.fromkeys(known.sales[::-1].tolist()))[:VISITED]
    purchased = set(known.sales[known.purchases].tolist())
    return {
        "visited": _ids(catalogue, visited),
        "purchased": _ids(catalogue, [sale for sale in visited if sale in purchased]),
    }


def named_sales(shown: list[dict[str, Any]], catalogue: Catalogue) -> dict[str, dict[str, Any]]:
    """Return title, country, category, price and cover of every sale named in examples; unknown ones are left out."""
    lists = [each[part] for each in shown for part in ("visited", "bought")]
    lists += [page for each in shown for page in each["pages"].values()]
    return {sale_id: _description(catalogue, catalogue.position[sale_id]) for sale_id in sorted(set().union(*lists))}


def _description(catalogue: Catalogue, sale: int) -> dict[str, Any]:
    photos = catalogue.gallery.photos(sale) if catalogue.gallery else ()
    attributes, price = catalogue.attributes[sale], float(catalogue.prices[sale])
    return {
        "title": catalogue.titles[sale],
        **{key: attributes[key] for key in ("country", "category") if attributes.get(key)},
        **({"price": price} if np.isfinite(price) else {}),
        **({"cover": photos[0]} if photos else {}),
    }


def _ids(catalogue: Catalogue, sales: Iterable[int]) -> list[str]:
    return [catalogue.sale_ids[sale] for sale in sales]
