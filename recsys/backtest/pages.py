"""The pages of a backtest: table `page_metrics` in memory, by policy, with sales as positions in the catalogue."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.metrics import bootstrap
from recsys.shop.catalogue import Catalogue


@dataclass(frozen=True)
class Pages:
    """The same pages in the same order for every policy."""

    by_policy: Mapping[str, pd.DataFrame]

    @classmethod
    def from_table(cls, rows: pa.Table, catalogue: Catalogue) -> "Pages":
        """Return the pages of table `page_metrics`."""
        lists = {name: positions_of(rows[name], catalogue) for name in ("shown", "bought")}
        plain = rows.drop_columns(["as_of", *lists]).to_pandas()
        return cls.of(
            plain.assign(as_of=micros_of(rows["as_of"]), **{name: each.to_pandas() for name, each in lists.items()})
        )

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Pages":
        """Sort rows by day and user, and group them by policy.

        Args:
            rows: Table `page_metrics`; as_of in microseconds UTC, sales as positions in the catalogue.
        """
        ordered = rows.sort_values(["as_of", "user_id"])
        return cls({str(policy): each for policy, each in ordered.groupby("policy", sort=False)})

    def __len__(self) -> int:
        """Number of pages."""
        return len(self.any)

    @property
    def any(self) -> pd.DataFrame:
        """The rows of one policy, for the columns that are equal for all: as_of, user_id, known_events, bought."""
        return next(iter(self.by_policy.values()))

    @property
    def users(self) -> NDArray:
        """The user of each page."""
        return self.any["user_id"].to_numpy()

    def has_order(self, policy: str) -> bool:
        """Return whether a policy distinguishes the sales of any page; if not, it shows them by sale_id."""
        return bool(self.by_policy[policy]["has_order"].any())

    def metric(self, name: str, policies: Iterable[str]) -> dict[str, NDArray[np.float64]]:
        """Return a metric by policy, one value per page."""
        return {policy: self.by_policy[policy][name].to_numpy() for policy in policies}


def micros_of(instants: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return a column of instants as microseconds since 1970-01-01 UTC."""
    return instants.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()


def positions_of(sale_ids: pa.ChunkedArray, catalogue: Catalogue) -> pa.Array:
    """Return the positions in the catalogue of sale ids, or of lists of them."""
    column = sale_ids.combine_chunks()
    known = pa.array(catalogue.sale_ids)
    if not pa.types.is_list(column.type):
        return pc.index_in(column, known)
    return pa.ListArray.from_arrays(column.offsets, pc.index_in(column.values, known))


def estimated(values: Mapping[Any, NDArray[np.float64]], users: NDArray, seed: int) -> dict[Any, dict[str, float]]:
    """Return the mean of each column with its bootstrap interval over users, as plain values for JSON."""
    return {name: estimate._asdict() for name, estimate in bootstrap(values, users, seed).items()}
