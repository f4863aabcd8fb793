"""Metrics by slice: pages by the user's history, purchases by the sale that was bought."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.backtest.pages import Pages, estimated
from recsys.instants import DAY
from recsys.metrics import NDCG
from recsys.pipeline.evaluation import LIVE, SHOWN
from recsys.shop.catalogue import Catalogue
from recsys.wording import amount

HISTORY_LENGTH, HOUR_OF_DAY, SALE_AGE = "history length", "hour of the day", "sale age"
COUNTRY, CATEGORY, PRICE = "country", "category", "price"
SLICE_METRICS = {HISTORY_LENGTH: NDCG, HOUR_OF_DAY: NDCG} | dict.fromkeys(
    (SALE_AGE, COUNTRY, CATEGORY, PRICE), "recall@10"
)

_EVENTS = {0: "0", 1: "1 to 5", 6: "6 to 20", 21: "21 to 100", 101: "more than 100"}
_DAYS_OPEN = {0: "less than 1 day", 1: "1 to 3 days", 3: "3 to 7 days", 7: "7 days or more"}
_HOURS = {0: "0 to 6 UTC", **{hour: f"{hour} to {hour + 3} UTC" for hour in range(6, 24, 3)}}
_OPENS_LATER = "opens on the day"
_VALUES = 12
"""At most this many values of an attribute are slices, the most bought ones: few purchases give a wide interval."""


@dataclass(frozen=True)
class Cases:
    """What is divided into slices: pages, or the purchases of all pages."""

    counted: str  # "pages" or "purchases"
    users: NDArray
    values: Mapping[str, NDArray[np.float64]]  # by policy, one per case

    def by(self, names: NDArray[np.object_], order: list[str], seed: int) -> list[dict[str, Any]]:
        """Return the means of each slice that has at least one case.

        Args:
            names: The slice of each case; None for a case outside all slices.
            order: The slices in the order in which they are shown.
            seed: Seed of the intervals.
        """
        return [
            {"name": name, self.counted: int(inside.sum()), "policies": self._means_where(inside, seed)}
            for name in order
            if (inside := names == name).any()
        ]

    def _means_where(self, inside: NDArray[np.bool_], seed: int) -> dict[str, Any]:
        return estimated({policy: each[inside] for policy, each in self.values.items()}, self.users[inside], seed)


def slices(pages: Pages, policies: list[str], catalogue: Catalogue, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Return the ndcg@10 of pages by the user's number of known events, and the recall@10 of purchases by the sale.

    Where some policy is live, also the ndcg@10 by the hour of the first purchase.

    Each purchase counts once, 1 if its sale is among the first ten and 0 otherwise: a page with three purchases counts
    three times, whereas the recall@10 of a policy is a mean over pages. Titles without a slice are left out.
    """
    of_pages = Cases("pages", pages.users, pages.metric(NDCG, policies))
    found = {HISTORY_LENGTH: of_pages.by(*_bins(pages.any["known_events"].to_numpy(), _EVENTS), seed)}
    if any(policy.startswith(LIVE) for policy in policies):
        hours = pages.any["first_purchase_at"].dt.hour.to_numpy()
        found[HOUR_OF_DAY] = of_pages.by(*_bins(hours, _HOURS), seed)
    purchases, sales = _purchases(pages, policies), np.concatenate(pages.any["bought"].to_list())
    as_ofs = np.repeat(pages.any["as_of"].to_numpy(), pages.any["bought"].map(len))
    named = {
        SALE_AGE: _ages(as_ofs - catalogue.opens_at[sales]),
        **{key: _attributes(catalogue, sales, key) for key in (COUNTRY, CATEGORY)},
        PRICE: _price_bands(catalogue.prices[sales]),
    }
    found |= {title: purchases.by(*names, seed) for title, names in named.items()}
    return {title: rows for title, rows in found.items() if rows}


def _purchases(pages: Pages, policies: list[str]) -> Cases:
    users = np.repeat(pages.users, pages.any["bought"].map(len))
    ranks = {policy: np.concatenate(pages.by_policy[policy]["ranks"].to_list()) for policy in policies}
    return Cases("purchases", users, {policy: (each <= SHOWN).astype(np.float64) for policy, each in ranks.items()})


def _bins(values: NDArray, lower_ends: Mapping[int, str]) -> tuple[NDArray[np.object_], list[str]]:
    """Return the name of each value's bin [lower end, next lower end), None below the first, and all names in order."""
    names = [None, *lower_ends.values()]
    return np.array(names, object)[np.digitize(values, list(lower_ends))], list(lower_ends.values())


def _ages(open_for: NDArray[np.int64]) -> tuple[NDArray[np.object_], list[str]]:
    """Return the bin of how long each sale had been open at the night's instant."""
    names, order = _bins(open_for / DAY, _DAYS_OPEN)
    names[open_for < 0] = _OPENS_LATER
    return names, [_OPENS_LATER, *order]


def _attributes(catalogue: Catalogue, sales: NDArray[np.int32], key: str) -> tuple[NDArray[np.object_], list[str]]:
    """Return the value of an attribute, None where a sale has none, and the most bought values in order."""
    names = np.array([catalogue.attributes[sale].get(key) for sale in sales], object)
    values, counts = np.unique([name for name in names if name is not None], return_counts=True)
    return names, [str(value) for value in values[np.argsort(-counts, kind="stable")][:_VALUES]]


def _price_bands(prices: NDArray[np.float64]) -> tuple[NDArray[np.object_], list[str]]:
    """Return the price quartile of each purchase, None without a price: intervals are about equally wide in each."""
    known = np.isfinite(prices)
    if not known.any():
        return np.full(len(prices), None, object), []
    ends = np.unique(np.percentile(prices[known], [25, 50, 75], method="lower"))
    labels = [amount(end) for end in ends]
    middle = [f"{low} to {high}" for low, high in pairwise(labels)]
    order = [f"up to {labels[0]}", *middle, f"more than {labels[-1]}"]
    names = np.array(order, object)[np.digitize(prices, ends, right=True)]
    names[~known] = None
    return names, order
