"""All sales as arrays: a sale's index in the catalogue is its column in every matrix over sales."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.errors import EmptyInputError
from recsys.instants import DAY, HOUR, from_micros
from recsys.shop.gallery import Gallery


@dataclass(frozen=True)
class Catalogue:
    """The sales in ascending order of `sale_id`, so that a tie broken by index is broken by id.

    Those that a refresh adds during the day follow the night's, whose positions users' histories hold.
    """

    sale_ids: list[str]
    opens_at: NDArray[np.int64]  # microseconds UTC
    closes_at: NDArray[np.int64]
    prices: NDArray[np.float64]  # nan where unknown
    texts: list[str]  # title and description
    titles: list[str]
    attributes: list[dict[str, str]]
    gallery: Gallery | None = None
    """The photos; None for a shop without any."""

    @classmethod
    def from_table(cls, sales: pa.Table) -> "Catalogue":
        """Return the catalogue of the rows of table `sales`.

        Raises:
            EmptyInputError: If the table has no row.
        """
        if sales.num_rows == 0:
            raise EmptyInputError("table 'sales' has 0 rows, needs at least 1: check the source with 'recsys validate'")
        sales = sales.sort_by("sale_id")
        titles = sales["title"].to_pylist()
        descriptions = sales["description"].to_pylist()
        return cls(
            sale_ids=sales["sale_id"].to_pylist(),
            opens_at=_to_micros(sales["opens_at"]),
            closes_at=_to_micros(sales["closes_at"]),
            prices=sales["price"].cast(pa.float64()).to_numpy().astype(np.float64),
            texts=[
                f"{title} {description or ''}".strip() for title, description in zip(titles, descriptions, strict=True)
            ],
            titles=titles,
            attributes=[dict(row or []) for row in sales["attributes"].to_pylist()],
        )

    def with_attributes(self, others: Mapping[str, Mapping[str, str]]) -> "Catalogue":
        """Return the catalogue with further attributes, by sale id; those that a sale has itself stay."""
        pairs = zip(self.sale_ids, self.attributes, strict=True)
        return replace(self, attributes=[{**others.get(sale_id, {}), **own} for sale_id, own in pairs])

    def __len__(self) -> int:
        """Number of sales."""
        return len(self.sale_ids)

    @cached_property
    def position(self) -> dict[str, int]:
        """Index of each sale id in the catalogue."""
        return {sale_id: position for position, sale_id in enumerate(self.sale_ids)}

    @property
    def has_themes(self) -> bool:
        """Whether the shop has photos with themes."""
        return self.gallery is not None and bool(self.gallery.theme_names)

    def with_open_sales(self, as_ofs: list[int], hours: float) -> list[int]:
        """Return the instants whose horizon has a sale; at others the shop was closed, or not open yet."""
        until = int(hours * HOUR)
        return [as_of for as_of in as_ofs if ((self.opens_at < as_of + until) & (self.closes_at > as_of)).any()]

    def horizon(self, as_of: int, hours: float) -> "Horizon":
        """Return the sales that are open at any instant of [as_of, as_of + hours).

        Raises:
            EmptyInputError: If no sale is open.
        """
        until = as_of + int(hours * HOUR)
        sales = self.open_within(as_of, until)
        if not len(sales):
            raise EmptyInputError(
                f"no sale is open in [{from_micros(as_of):%Y-%m-%d %H:%M}, {from_micros(until):%Y-%m-%d %H:%M}) UTC: "
                "choose another --as-of, or check 'opens_at' and 'closes_at' with 'recsys validate'"
            )
        return self.horizon_of(as_of, until, sales)

    def open_within(self, as_of: int, until: int) -> NDArray[np.int32]:
        """Return the positions of the sales that are open at any instant of [as_of, until), ascending."""
        return np.flatnonzero((self.opens_at < until) & (self.closes_at > as_of)).astype(np.int32)

    def horizon_of(self, as_of: int, until: int, sales: NDArray[np.int32]) -> "Horizon":
        """Return a horizon of given sales, by their positions in the catalogue."""
        end = min(as_of + DAY, until)
        open_for = np.minimum(self.closes_at[sales], end) - np.maximum(self.opens_at[sales], as_of)
        return Horizon(as_of, until, sales, (np.maximum(open_for, 0) / (end - as_of)).astype(np.float32))


@dataclass(frozen=True)
class Horizon:
    """The sales that a night must rank: those open at any instant of [as_of, until)."""

    as_of: int  # microseconds UTC
    until: int
    sales: NDArray[np.int32]  # positions in the catalogue: a night's ascending, then those that a refresh added
    open_share: NDArray[np.float32]  # share of the first day of the horizon during which each sale is open

    def __len__(self) -> int:
        """Number of sales ranked."""
        return len(self.sales)

    def columns(self, sales: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the column of each sale, given by its index in the catalogue; -1 for one that is not ranked."""
        return self.column_of.take(sales, mode="clip")

    @cached_property
    def column_of(self) -> NDArray[np.int64]:
        """The column of each sale up to the last one of the horizon; the entry behind it, -1, is that of all others."""
        column = np.full(self.sales.max() + 2, -1)
        column[self.sales] = np.arange(len(self))
        return column


def _to_micros(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
