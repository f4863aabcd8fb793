"""exposures_compacted → which sales a user was shown on a day, and at which place of a page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from recsys.instants import DAY
from recsys.shop.catalogue import Horizon

_LISTS = ("shown_on", "shown_sales", "shown_places")


def with_impressions(histories: DataFrame, exposures: DataFrame, as_ofs: list[int]) -> DataFrame:
    """Add to each user's row what pages showed him in the day from each instant.

    Args:
        histories: Table `user_histories`.
        exposures: Table `exposures_compacted`.
        as_ofs: Instants, microseconds.

    Returns:
        The rows with lists `shown_on` (the instant), `shown_sales` (sale_id) and `shown_places`, the first place being
        1; a sale is in once a user and day, with its best place. Null for a user who saw no page.
    """
    exposed_at = f.unix_micros("exposed_at")
    days = f.explode(f.array(*(f.lit(each) for each in as_ofs)))
    pages = exposures.select("user_id", "sale_ids", exposed_at.alias("moment"), days.alias("as_of"))
    pages = pages.where(f"moment >= as_of and moment < as_of + {DAY}")
    places = pages.select("user_id", "as_of", f.posexplode("sale_ids").alias("place", "sale_id"))
    best = places.groupBy("user_id", "as_of", "sale_id").agg((f.min("place") + 1).alias("place"))
    lists = zip(("as_of", "sale_id", "place"), _LISTS, strict=True)
    shown = best.groupBy("user_id").agg(
        f.sort_array(f.collect_list(f.struct("as_of", "sale_id", "place"))).alias("all")
    )
    shown = shown.select("user_id", *(f.col(f"all.{name}").alias(list_name) for name, list_name in lists))
    return histories.join(shown, on="user_id", how="left")


@dataclass(frozen=True)
class Impressions:
    """What the users of a batch were shown."""

    of_users: Mapping[str, tuple[NDArray[np.int64], list[str], NDArray[np.int64]]]
    """Instant, sale and place of each, by user."""

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch) -> "Impressions":
        """Read the lists that `with_impressions` adds; nobody was shown anything where they are not there."""
        if _LISTS[0] not in batch.schema.names:
            return cls({})
        return cls(dict(_users(batch)))

    def places(self, user_ids: pa.StringArray, horizon: Horizon, position: Mapping[str, int]) -> NDArray[np.int64]:
        """Return at which place each user was shown each sale of the horizon in the day from its instant.

        Args:
            user_ids: Of the users.
            horizon: Of the instant.
            position: Of each sale in the catalogue.

        Returns:
            Shape (n_users, n_horizon); 0 where he was shown others, -1 where he was shown none.
        """
        places = np.full((len(user_ids), len(horizon)), -1)
        for row, user_id in enumerate(user_ids.to_pylist()):
            if user_id in self.of_users:
                as_ofs, sale_ids, at = self.of_users[user_id]
                sales = np.array([position.get(each, len(position)) for each in sale_ids], np.int32)
                columns = horizon.columns(sales)
                that_day = as_ofs == horizon.as_of
                if that_day.any():
                    places[row] = 0
                seen = that_day & (columns >= 0)
                places[row, columns[seen]] = at[seen]
        return places


def _users(batch: pa.RecordBatch) -> Iterator[tuple[str, tuple[NDArray[np.int64], list[str], NDArray[np.int64]]]]:
    columns = [batch.column(name).to_pylist() for name in ("user_id", *_LISTS)]
    for user_id, as_ofs, sale_ids, places in zip(*columns, strict=True):
        if as_ofs:
            yield user_id, (np.array(as_ofs), sale_ids, np.array(places))
