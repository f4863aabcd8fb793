import logging
from pathlib import Path

import numpy as np

from jobs.engine.nights import night
from jobs.engine.run import Run, with_inputs
from jobs.night.build_histories import BUILD_HISTORIES
from jobs.night.validate_tables import VALIDATE_TABLES
from recsys.erasure.logs_and_tables import add_to_erased, erase_from_tables
from recsys.instants import DAY, to_micros
from recsys.tables.night import USER_HISTORIES
from recsys.tables.parts import parts_of
from tests.helpers.shop_by_days import ShopByDays
from tests.helpers.small_shop import AS_OF, Row, SmallShop, event, sale

SALES = [sale("m"), sale("z")]
EVENTS = [event("ann", "m", -3), event("bob", "z", -2)]


def visited(run: Run) -> dict[str, list[str]]:
    """Return the sales in each user's history, by their position in the run's table of sales."""
    sale_ids, rows = run.shop.catalogue.sale_ids, USER_HISTORIES.read(run.spark, run.outputs).collect()
    return {row["user_id"]: [sale_ids[position] for position in row["sales"]] for row in rows}


def test_raw_table_that_changes_before_an_interrupted_night_is_repeated_gives_consistent_histories(spark, tmp_path):
    shop = SmallShop(tmp_path).write(SALES, EVENTS)
    night(shop.settings()).do((VALIDATE_TABLES,))
    shop.write([sale("a"), *SALES], EVENTS)  # the sale that was at position 0 is at 1 now
    night(shop.settings()).do((BUILD_HISTORIES,))  # the night continues, and is interrupted after this step
    repeated = night(shop.settings())
    repeated.do(with_inputs(BUILD_HISTORIES))
    assert repeated.shop.catalogue.sale_ids == ["a", "m", "z"]
    assert visited(repeated) == {"ann": ["m"], "bob": ["z"]}


def gathered(by_days: ShopByDays, day: int, folder: str = "var", **changes: object) -> Run:
    run = night(by_days.settings(folder), to_micros(AS_OF) + day * DAY, **changes)
    run.do(with_inputs(BUILD_HISTORIES))
    return run


def digests(run: Run) -> list[tuple[int, str]]:
    return [(part.rows, part.sha256) for part in parts_of(run.outputs / USER_HISTORIES.name)]


def test_histories_carried_on_have_the_bytes_of_those_made_anew(spark, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="jobs")
    rng, shop = np.random.default_rng(7), ShopByDays(tmp_path)

    def some_events(day: int) -> list[Row]:
        hours = np.round(24 * day + rng.uniform(0, 24, 20))
        return [event(f"u{rng.integers(9)}", str(rng.choice(["b", "d"])), float(hour)) for hour in hours]

    shop.write_sales([sale(name, -400, 400) for name in "bdf"])
    for day in range(-9, 0):
        shop.write_day(day, some_events(day) + [event("old", "f", -3)] * (day == -1))
    gathered(shop, 0)
    shop.write_sales([sale(name, -400, 400) for name in "abcd"])  # f is gone, b and d have new positions
    shop.write_day(0, [*some_events(0), event("new", "a", 3), event("u1", "c", -70)])
    carried = gathered(shop, 1)
    assert "days of events differ from those of 20260301T000000Z" in caplog.text
    assert digests(carried) == digests(gathered(shop, 1, "anew", rebuilds=True))
    assert visited(carried)["new"] == ["a"]
    assert "old" not in visited(carried)


def test_erased_user_is_in_no_histories_that_are_carried_on(spark, tmp_path):
    shop = ShopByDays(tmp_path)
    shop.write_sales(SALES)
    for day in (-3, -2, -1):
        shop.write_day(day, [event("ann", "m", 24 * day + 24 - 1), event("bob", "z", 24 * day + 24 - 2)])
    folder = Path(gathered(shop, 0).settings.folder)
    add_to_erased(folder, "bob")
    erase_from_tables(folder, "bob")
    assert visited(gathered(shop, 1)).keys() == {"ann"}
