"""exposures_compacted → at which position pages of a day showed each sale to each user."""

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
    """Add to each user's row the pages that the user was shown.

    Args:
        histories: Table `user_histories`.
        exposures: Table `exposures_compacted`, of the days that matter.

    Returns:
        The rows with list `pages`, in no order, of structs `shown_at`, microseconds, and `sale_ids`, the top first.
        Null for a user who saw no page with a sale.
    """
    page = f.struct(f.unix_micros("exposed_at").alias("shown_at"), "sale_ids")
    with_sales = exposures.where("size(sale_ids) > 0")
    pages = with_sales.groupBy("user_id").agg(f.collect_list(page).alias(_PAGES))
    return histories.join(pages, on="user_id", how="left")


@dataclass(frozen=True)
class Impressions:
    """The pages that the users of a batch were shown.

    Page p of user u is in page_offsets[u] <= p < page_offsets[u + 1], in no order; sale s of page p, the top first, in
    sale_offsets[p] <= s < sale_offsets[p + 1].
    """

    user_ids: pa.StringArray
    page_offsets: NDArray[np.int64]  # (n_users + 1,)
    shown_at: NDArray[np.int64]  # (n_pages,) microseconds UTC
    sale_offsets: NDArray[np.int64]  # (n_pages + 1,)
    sales: NDArray[np.int32]  # (n_shown,) positions in the catalogue; its length for a sale that it does not have

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch, catalogue: Catalogue) -> "Impressions":
        """Read the lists that `with_impressions` adds; nobody was shown anything where they are not there."""
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
        return cls(user_ids, _offsets(pages), shown_at.to_numpy(), _offsets(sale_ids), known)

    def positions(self, user_ids: pa.StringArray, horizon: Horizon) -> NDArray[np.int64]:
        """Return the best position at which each user was shown each sale of the horizon in the day from its instant.

        Args:
            user_ids: Of the users.
            horizon: Of the instant.

        Returns:
            Shape (n_users, n_horizon), 1 for the top of a page; 0 where pages of the day showed the user other sales
            only, -1 where the user was shown no page.
        """
        users = pc.index_in(user_ids, self.user_ids)
        of_user, pages = _elements(self.page_offsets, users.fill_null(len(self.user_ids)).to_numpy())
        of_day = (self.shown_at[pages] >= horizon.as_of) & (self.shown_at[pages] < horizon.as_of + DAY)
        of_user, pages = of_user[of_day], pages[of_day]
        of_page, shown = _elements(self.sale_offsets, pages)
        columns = horizon.columns(self.sales[shown])
        ranked = np.flatnonzero(columns >= 0)
        of_page, shown, columns = of_page[ranked], shown[ranked], columns[ranked]
        nowhere = np.iinfo(np.int64).max
        best = np.full((len(user_ids), len(horizon)), nowhere)
        np.minimum.at(best, (of_user[of_page], columns), shown - self.sale_offsets[pages][of_page] + 1)
        best[best == nowhere] = 0
        best[np.bincount(of_user, minlength=len(best)) == 0] = -1
        return best


def _offsets(lists: pa.ListArray) -> NDArray[np.int64]:
    """Return where each list starts and ends in `lists.flatten()`, which drops what null lists and slices leave out."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def _elements(offsets: NDArray[np.int64], lists: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the elements of some lists, one list after the other: which of these it is of, and its own number.

    Args:
        offsets: Of all lists, shape (n_lists + 1,).
        lists: Which ones; n_lists stands for one without elements.
    """
    starts = offsets[lists]
    lengths = np.append(offsets, offsets[-1])[lists + 1] - starts
    of_list = np.repeat(np.arange(len(lists)), lengths)
    return of_list, np.arange(len(of_list)) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
