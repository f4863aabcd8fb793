import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.engine.nights import night
from jobs.night.validate_tables import VALIDATE_TABLES
from recsys.config.settings import load_settings
from recsys.errors import InputError
from recsys.instants import to_micros
from recsys.tables.parts import read_arrow
from tests.helpers.paths import ROOT
from tests.helpers.small_shop import RAW_TYPES, SmallShop, at, event, sale

ONLINE_RETAIL = ROOT.parent / "shared/data/online_retail/online_retail.parquet"


@pytest.fixture
def small(tmp_path) -> SmallShop:
    sales = [sale("s1"), sale("s2", price=-1.0)]
    events = [event("u1", "s1", -1), event("u1", "s1", -1), event("u2", "s2", -1), event("u3", "s1", -60, "purchase")]
    return SmallShop(tmp_path).write(sales, events)


def validated(shop: SmallShop) -> Path:
    run = night(shop.settings(source=shop.raw_settings()["source"] | {"max_rejected_share": 1.0}))
    run.do((VALIDATE_TABLES,))
    return run.outputs


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


def test_what_the_public_sent_is_set_aside_before_the_shops_sql_sees_it(spark, tmp_path):
    ours = [event("u1", "s1", -1 - number) for number in range(99)] + [event("u1", "s1", -1, "refund")]
    shop = SmallShop(tmp_path).write([sale("s1", -200), sale("dear", price=-1.0)], ours)
    columns = ", ".join(RAW_TYPES["events"].names)
    shop.write_sql(
        "events", f"select {columns} from {{raw_events}} union all select {columns} from {{recorded_events}}"
    )
    sent = [event(f"bot{number}", f"nothing{number}", -2, recorded_at=at(-2)) for number in range(300)]
    sent += [event("u2", "dear", -2, recorded_at=at(-2)), event("u2", "s1", -3, recorded_at=at(-2))]
    sent += [event("u2", "s1", 1, recorded_at=at(-2))]  # not known yet
    day = tmp_path / "var/recorded_events_compacted/day=2026-02-28"
    day.mkdir(parents=True)
    others = {"event_id": "e", "attribution_token": ""}
    recorded = pa.Table.from_pylist(sent, RAW_TYPES["events"])
    for name, value in others.items():
        recorded = recorded.append_column(name, pa.array([value] * len(sent)))
    pq.write_table(recorded, day / "part.parquet")

    def counts(max_rejected_share: float) -> dict[tuple[str, str], int]:
        strict = shop.raw_settings()["source"] | {"max_rejected_share": max_rejected_share}
        # The share is that of the shop's own events; half of its two sales is broken by itself.
        run = night(shop.settings(source=strict))
        run.do((VALIDATE_TABLES,))
        found = json.loads((run.outputs / "rule_counts.json").read_text())
        return {(count["table"], count["rule"]["name"]): count["broken"] for count in found if count["broken"]}

    assert counts(0.5) == {
        ("sales", "price_valid"): 1,
        ("recorded_events", "sale_known"): 300,
        ("recorded_events", "sale_usable"): 1,
        ("events", "kind_known"): 1,
        ("events", "known_as_of"): 1,
    }
    folder = night(shop.settings()).outputs
    rejected = Counter(row["table"] for row in pq.read_table(folder / "rejected_rows").to_pylist())
    assert rejected == {"sales": 1, "events": 1, "recorded_events": 301}
    assert sorted(set(pq.read_table(folder / "events")["user_id"].to_pylist())) == ["u1", "u2"]


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
        for count in json.loads((run.outputs / "rule_counts.json").read_text())
    }
    assert counts["events", "user_id_present"] == 135_080  # lines without a user
    assert counts["events", "kind_known"] == 8_945  # returns and gifts
    assert read_arrow(run.outputs / "sales").num_rows == 3_665


def test_night_is_redone_when_raw_tables_in_an_object_store_change(spark, small, object_store):
    store = object_store(small.folder.name)
    raw = {f"raw_{name}": {"path": f"{store}/{name}"} for name in ("sales", "events")}

    def n_events(*names: str) -> int:
        for name in names:
            (store / f"{name}/a.parquet").write_bytes((small.folder / f"raw/{name}.parquet").read_bytes())
        run = night(small.settings(source=small.raw_settings()["source"] | {"raw": raw}))
        run.do((VALIDATE_TABLES,))
        return pq.read_table(run.outputs / "events").num_rows

    assert n_events("sales", "events") == 2
    small.write([sale("s1")], [event("u1", "s1", -1)])
    assert n_events() == 2
    assert n_events("events") == 1


def test_night_goes_on_when_columns_change_names_them_once_and_refuses_what_misleads_the_sql(spark, small, caplog):
    small.write_sql(
        "events", "select user_id, sale_id, kind, occurred_at, cast(revenue as double) as revenue from {raw_events}"
    )
    file = small.folder / "raw/events.parquet"

    def named_in_night(day: int, change=lambda rows: rows) -> list[str]:
        pq.write_table(change(pq.read_table(file)), file)
        caplog.clear()
        night(small.settings(), to_micros(at(24 * day))).do((VALIDATE_TABLES,))
        return [message.strip() for message in caplog.messages if "since the last night" in message]

    def as_text(rows):
        return rows.drop_columns("revenue").append_column("revenue", pa.array(["much"] * rows.num_rows))

    assert named_in_night(0) == []
    changed = named_in_night(1, lambda rows: rows.append_column("new", pa.array([1] * rows.num_rows)))
    assert changed == ["since the last night raw table 'raw_events': column new is new (bigint)"]
    assert named_in_night(2) == []
    with pytest.raises(InputError, match=rf"column revenue is string, was double in the last night, in {file}, and"):
        named_in_night(3, as_text)
    with pytest.raises(InputError, match=r"events.sql: .*`revenue`.*column revenue is gone, was double"):
        named_in_night(3, lambda rows: rows.drop_columns("revenue"))
