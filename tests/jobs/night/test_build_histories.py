from jobs.engine.nights import night
from jobs.engine.run import Run, with_inputs
from jobs.night.build_histories import BUILD_HISTORIES
from jobs.night.validate_tables import VALIDATE_TABLES
from recsys.tables.night import USER_HISTORIES
from tests.helpers.small_shop import SmallShop, event, sale

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
