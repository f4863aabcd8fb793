"""exposures_compacted → the best position at which the pages of a day showed each sale to each user."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from recsys.instants import DAY
from recsys.shop.catalogue import Catalogue, Horizon

_PAGES = "pages"


def with_impressions(histories: DataFrame, exposures: DataFrame) -> DataFrame:
    """Add the pages that each user was shown to the user's row.

    Args:
        histories: Table `user_histories`.
        exposures: Table `exposures_compacted`, limited to the days that are needed.

    Returns:
        The rows with a list `pages`, in any order, of structs `shown_at` (microseconds) and `sale_ids`, top first.
        Null for users without a page that has a sale.
    """
    page = f.struct(f.unix_micros("exposed_at").alias("shown_at"), "sale_ids")
    with_sales = exposures.where("size(sale_ids) > 0")
    pages = with_sales.groupBy("user_id").agg(f.collect_list(page).alias(_PAGES))
    return histories.join(pages, on="user_id", how="left")


@dataclass(frozen=True)
class Impressions:
    """The pages that the users of a batch were shown.

    The pages p of user u are page_offsets[u] <= p < page_offsets[u + 1], in any order; the sales s of page p are
    sale_offsets[p] <= s < sale_offsets[p + 1], top first.
    """

    user_ids: pa.StringArray
    page_offsets: NDArray[np.int64]  # (n_users + 1,)
    shown_at: NDArray[np.int64]  # (n_pages,) microseconds UTC
    sale_offsets: NDArray[np.int64]  # (n_pages + 1,)
    sales: NDArray[np.int32]  # (n_shown,) positions in the catalogue; len(catalogue) for a sale not in it

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch, catalogue: Catalogue) -> "Impressions":
        """Return the pages that `with_impressions` added to a batch; no pages if it was not applied."""
        user_ids = batch.column("user_id")
        if _PAGES not in batch.schema.names:
            nothing = np.empty(0, np.int64)
            return cls(
                user_ids,
                np.zeros(len(user_ids) + 1, np.int64),
                nothing,
                np.zeros(1, np.int64),
                nothing.astype(np.int32),
            )
        pages = batch.column(_PAGES)
        shown_at, sale_ids = pages.flatten().flatten()
        sales = pc.index_in(sale_ids.flatten(), pa.array(catalogue.sale_ids, pa.string()))
        known = sales.fill_null(len(catalogue)).to_numpy()
        return cls(user_ids, _list_offsets(pages), shown_at.to_numpy(), _list_offsets(sale_ids), known)

    def positions(self, user_ids: pa.StringArray, horizon: Horizon) -> NDArray[np.int64]:
        """Return the best position at which each user was shown each sale of the horizon in the 24 hours from its
        as_of.

        Args:
            user_ids: Ids of the users, shape (n_users,).
            horizon: The sales, and the instant as_of.

        Returns:
            Shape (n_users, n_horizon): 1 for the top of a page, 0 if the user's pages of the day did not show the sale,
            -1 if the user had no page on the day.
        """
        users = pc.index_in(user_ids, self.user_ids)
        of_user, pages = _list_elements(self.page_offsets, users.fill_null(len(self.user_ids)).to_numpy())
        of_day = (self.shown_at[pages] >= horizon.as_of) & (self.shown_at[pages] < horizon.as_of + DAY)
        of_user, pages = of_user[of_day], pages[of_day]
        of_page, shown = _list_elements(self.sale_offsets, pages)
        columns = horizon.columns(self.sales[shown])
        ranked = np.flatnonzero(columns >= 0)
        of_page, shown, columns = of_page[ranked], shown[ranked], columns[ranked]
        not_shown = np.iinfo(np.int64).max
        best = np.full((len(user_ids), len(horizon)), not_shown)
        np.minimum.at(best, (of_user[of_page], columns), shown - self.sale_offsets[pages][of_page] + 1)
        best[best == not_shown] = 0
        best[np.bincount(of_user, minlength=len(best)) == 0] = -1
        return best


def _list_offsets(lists: pa.ListArray) -> NDArray[np.int64]:
    """Return where each list starts and ends in `lists.flatten()`, in which null lists and sliced-off lists are
    absent."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def _list_elements(offsets: NDArray[np.int64], lists: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the elements of the chosen lists, one list after the other: index into `lists`, and number of the element.

    Args:
        offsets: Offsets of all lists, shape (n_lists + 1,).
        lists: Numbers of the chosen lists; n_lists stands for an empty list.
    """
    starts = offsets[lists]
    lengths = np.append(offsets, offsets[-1])[lists + 1] - starts
    of_list = np.repeat(np.arange(len(lists)), lengths)
    return of_list, np.arange(len(of_list)) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
