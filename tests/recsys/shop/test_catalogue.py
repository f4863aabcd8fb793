from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import EmptyInputError
from recsys.instants import HOUR
from recsys.shop.catalogue import Catalogue
from recsys.testing.shops import AS_OF, instant, make_shop, sale


def catalogue(*sales: dict) -> Catalogue:
    return make_shop(list(sales), []).catalogue


def test_sales_are_in_order_of_the_bytes_of_their_ids() -> None:
    sales = catalogue(sale("é"), sale("a", price=7), sale("B"), sale("a2"))
    assert sales.sale_ids == ["B", "a", "a2", "é"]
    assert sales.position == {"B": 0, "a": 1, "a2": 2, "é": 3}
    assert sales.prices[1] == 7
    assert len(sales) == 4


def test_missing_values_are_nan_or_empty() -> None:
    sales = catalogue(sale("a", title="Alps"), sale("b", title="", description="Beach", price=5, country="FR"))
    assert np.isnan(sales.prices[0])
    assert sales.prices[1] == 5
    assert sales.texts == ["Alps", "Beach"]
    assert sales.titles == ["Alps", ""]
    assert sales.attributes == [{}, {"country": "FR"}]


def test_text_is_title_and_description() -> None:
    assert catalogue(sale("a", title="Alps", description="by night")).texts == ["Alps by night"]


def test_prices_may_all_be_unknown() -> None:
    sales = catalogue(sale("a"), sale("b"))
    assert sales.prices.dtype == np.float64
    assert np.isnan(sales.prices).all()


def test_instants_of_any_zone_and_unit_become_microseconds_utc() -> None:
    table = make_shop([sale("a", -0.5, 1)], []).sales
    for kind in (pa.timestamp("ns", tz="Europe/Paris"), pa.timestamp("ms", tz="UTC")):
        other = table.set_column(1, "opens_at", table["opens_at"].cast(kind))
        assert Catalogue.from_table(other).opens_at.tolist() == [AS_OF - 12 * HOUR]


def test_no_sale_is_an_error_that_names_the_table() -> None:
    table = make_shop([sale("a")], []).sales.slice(0, 0)
    with pytest.raises(EmptyInputError, match="table 'sales' has 0 rows, needs at least 1"):
        Catalogue.from_table(table)


def test_horizon_is_half_open_at_both_ends() -> None:
    micro = 1 / (24 * HOUR)
    sales = catalogue(
        sale("a", -2, 0),  # closes at as_of: it cannot be bought any more
        sale("b", -2, micro),  # is open for the first microsecond
        sale("c", 0.1, 0.2),  # opens and closes within
        sale("d", 1.5 - micro, 3),  # is open for the last microsecond
        sale("e", 1.5, 3),  # opens when the horizon ends
        sale("f", -9, 9),  # is open all the time
    )
    horizon = sales.horizon(AS_OF, 36)
    assert [sales.sale_ids[position] for position in horizon.sales] == ["b", "c", "d", "f"]
    assert horizon.sales.dtype == np.int32
    assert (horizon.as_of, horizon.until, len(horizon)) == (AS_OF, instant(1.5), 4)


def test_column_of_a_sale_is_its_index_in_the_horizon_and_minus_1_where_it_is_not_ranked() -> None:
    sales = catalogue(sale("a", -3, -2), sale("b"), sale("c", -3, -2), sale("d"), sale("e", 5, 6), sale("f", 5, 6))
    horizon = sales.horizon(AS_OF, 36)
    assert horizon.columns(np.array([5, 3, 0, 1, 2, 3, 4], np.int32)).tolist() == [-1, 1, -1, 0, -1, 1, -1]
    assert horizon.columns(np.empty(0, np.int32)).tolist() == []


def test_horizon_may_end_within_an_hour() -> None:
    assert len(catalogue(sale("a", 0.5 / 24, 1)).horizon(AS_OF, 0.75)) == 1


def test_horizon_without_a_sale_is_an_error_that_names_the_window() -> None:
    sales = catalogue(sale("a", -2, -1), sale("b", 5, 6))
    window = r"no sale is open in \[2026-03-01 00:00, 2026-03-02 12:00\) UTC: choose another --as-of"
    with pytest.raises(EmptyInputError, match=window):
        sales.horizon(AS_OF, 36)


def test_as_of_of_the_fixture_is_the_instant_in_its_sales() -> None:
    assert datetime.fromisoformat("2026-03-01T00:00:00Z").timestamp() * 1e6 == AS_OF
