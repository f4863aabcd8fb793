import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.engine.nights import night
from jobs.night.validate_tables import VALIDATE_TABLES
from recsys.config.settings import load_settings
from tests.helpers.paths import ROOT
from tests.helpers.small_shop import SmallShop, event, sale

ONLINE_RETAIL = ROOT.parent / "shared/data/online_retail/online_retail.parquet"


@pytest.fixture
def small(tmp_path) -> SmallShop:
    sales = [sale("s1"), sale("s2", price=-1.0)]
    events = [event("u1", "s1", -1), event("u1", "s1", -1), event("u2", "s2", -1), event("u3", "s1", -60, "purchase")]
    return SmallShop(tmp_path).write(sales, events)


def validated(shop: SmallShop) -> Path:
    run = night(shop.settings(source=shop.raw_settings()["source"] | {"max_rejected_share": 1.0}))
    run.do((VALIDATE_TABLES,))
    return run.folder


def test_usable_rows_are_written_and_rejected_rows_separately_with_their_rule(spark, small):
    folder = validated(small)
    assert pq.read_table(folder / "sales")["sale_id"].to_pylist() == ["s1"]
    events = pq.read_table(folder / "events")
    assert sorted(zip(events["user_id"].to_pylist(), events["kind"].to_pylist(), strict=True)) == [
        ("u1", "visit"),
        ("u3", "purchase"),
    ]
    rejected = {
        (row["table"], row["rule"]): json.loads(row["row"])
        for row in pq.read_table(folder / "rejected_rows").to_pylist()
    }
    assert set(rejected) == {("sales", "price_valid"), ("events", "event_unique"), ("events", "sale_usable")}
    assert rejected["sales", "price_valid"]["price"] == -1.0
    assert rejected["events", "sale_usable"]["user_id"] == "u2"


def test_counts_have_examples_of_rows_set_aside_and_of_rows_used_despite_a_rule(spark, small):
    counts = json.loads((validated(small) / "rule_counts.json").read_text())
    examples = {count["rule"]["name"]: count["examples"] for count in counts if count["examples"]}
    assert {name: json.loads(rows[0]).get("user_id") for name, rows in examples.items()} == {
        "price_valid": None,
        "sale_usable": "u2",
        "event_unique": "u1",
        "purchase_while_open": "u3",
    }


def test_users_are_empty_if_the_source_has_none(spark, small):
    assert pq.read_table(validated(small) / "users").num_rows == 0
    small.write_sql("users", "select user_id, map('country', 'FR') as attributes from {raw_events} group by user_id")
    users = pq.read_table(validated(small) / "users").to_pylist()
    assert sorted(row["user_id"] for row in users) == ["u1", "u2", "u3"]


@pytest.mark.real_data
def test_online_retail_has_exactly_these_rows_that_break_a_rule(compiled, tmp_path):
    if not ONLINE_RETAIL.exists():
        pytest.skip(f"{ONLINE_RETAIL.relative_to(ROOT.parent)} is not there: it comes with the shared real data sets")
    settings = load_settings(ROOT / "conf/online_retail.yaml")
    source = settings.source.model_copy(
        update={
            "sql": str(ROOT / settings.source.sql),
            "raw": {
                "invoice_lines": settings.source.raw["invoice_lines"].model_copy(update={"path": str(ONLINE_RETAIL)})
            },
        }
    )
    run = night(settings.model_copy(update={"folder": str(tmp_path), "source": source}))
    run.do((VALIDATE_TABLES,))
    counts = {
        (count["table"], count["rule"]["name"]): count["broken"]
        for count in json.loads((run.folder / "rule_counts.json").read_text())
    }
    assert counts["events", "user_id_present"] == 135_080  # lines without a user
    assert counts["events", "kind_known"] == 8_945  # returns and gifts
    assert pq.read_table(run.folder / "sales").num_rows == 3_665
