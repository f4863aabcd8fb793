import pytest

from jobs.engine.nights import night
from jobs.engine.run import Run, with_inputs
from jobs.night.nightly import nightly
from jobs.night.rank_segments import RANK_SEGMENTS
from recsys.instants import to_micros
from recsys.pipeline.segments import segment_rankings
from recsys.shop.catalogue import Catalogue
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import Snapshot
from recsys.storage.journal import steps_of
from recsys.tables.parts import read_arrow
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, SmallShop, event, random_rows, sale

pytestmark = MLFLOW_WARNS

USERS = """
select user_id, map('market', if(user_id < 'u10', 'north', 'south'), 'age', '40') as attributes
from {raw_events} where user_id != 'u00' group by user_id
"""
SEGMENTS = {"attributes": ["market"], "top_k": 11, "min_events": 1, "prior_events": 5.0}


@pytest.fixture
def segmented(spark, tmp_path) -> SmallShop:
    """A shop with two markets, before its night."""
    shop = SmallShop(tmp_path, {"rankings": {"top_k": 10, "segments": SEGMENTS}}).write(*random_rows(2))
    shop.write_sql("users", USERS)
    return shop


def done(shop: SmallShop, **segments: object) -> Run:
    run = night(shop.settings(rankings={"top_k": 10, "segments": SEGMENTS | segments}))
    run.do(with_inputs(RANK_SEGMENTS))
    return run


def entry(run: Run, step: str = "rank_segments") -> dict:
    return steps_of(run.folder)[step]


def summary(run: Run) -> str:
    return entry(run)["summary"]


def test_night_ranks_the_segments_of_the_configured_attributes(segmented):
    name = nightly(night(segmented.settings()))
    run = night(segmented.settings())
    snapshot = Snapshot.open(segmented.settings().snapshots_folder / name)
    rankings = segment_rankings(run.outputs)
    assert {attribute: set(values) for attribute, values in rankings.items()} == {"market": {"north", "south"}}
    for ranking in rankings["market"].values():
        assert len(set(ranking.sales)) == min(11, len(snapshot.sales))
        assert {snapshot.reasons[code] for code in ranking.reasons} == {"popularity"}
    assert snapshot_store.current(segmented.settings().snapshots_folder) == name
    assert summary(run) == "2 segments: 2 by market"


def test_market_that_visits_only_one_sale_has_it_first(segmented):
    sales = [sale("s1"), sale("s2"), sale("s3", 10)]
    events = [event(f"u{number}", "s1", -5) for number in range(20, 29)] + [event("u01", "s2", -5, "purchase")]
    run = done(segmented.write(sales, events), prior_events=0.1)
    sale_ids = Catalogue.from_table(read_arrow(run.outputs / "sales")).sale_ids
    horizon = run.shop.horizon(to_micros(AS_OF)).sales
    best = {value: sale_ids[horizon[each.sales[0]]] for value, each in segment_rankings(run.outputs)["market"].items()}
    assert best == {"north": "s2", "south": "s1"}


def test_step_is_rerun_only_if_its_own_settings_change(segmented):
    run = done(segmented)
    written, validated = entry(run), entry(run, "validate_tables")
    assert done(segmented).folder == run.folder
    assert entry(run) == written
    done(segmented, attributes=["market", "age", "colour"])
    assert summary(run) == "3 segments: 2 by market, 1 by age, 0 by colour"
    assert entry(run, "validate_tables") == validated


def test_shop_without_users_or_attributes_gets_an_empty_table(published_shop, segmented):
    run = night(published_shop.settings())
    assert segment_rankings(run.outputs) == {}
    assert summary(run) == "0 segments: no attribute is configured"
    (segmented.folder / "sql/users.sql").unlink()
    run = done(segmented)
    assert segment_rankings(run.outputs) == {}
    assert summary(run) == "0 segments: 0 by market"
