from datetime import UTC, datetime

import pytest
import yaml

from recsys.config.pipeline import RawTable
from recsys.instants import to_micros
from recsys.onboarding.columns import Column, quoted
from recsys.onboarding.guesses import attribute_columns, guess_columns
from recsys.onboarding.plan import EventCounts, Plan
from recsys.onboarding.writing import conditions, configuration, spark_conf, sql_files

LAST = to_micros(datetime(2025, 5, 6, 7, 8, tzinfo=UTC))


def plan(sales: dict[str, list], events: dict[str, list], events_2: dict[str, list] | None = None, **others) -> Plan:
    """A plan of the columns that are guessed; the sales are those of the events if they are the same object."""
    samples = {
        table: [Column(name, quoted(name), rows) for name, rows in columns.items()]
        for table, columns in (("sales", sales), ("events", events), ("events_2", events_2))
        if columns
    }
    if sales is events:
        samples["sales"] = samples["events"]
    guesses = guess_columns(samples, {})
    used = [guess.column.name for guess in guesses.values() if guess.column]
    key = guesses["sales.sale_id"].column
    assert key
    raw = {
        "raw_sales": RawTable(path="s.csv", format="csv", options={"sep": ";"}),
        "raw_events": RawTable(path="e.parquet"),
    }
    others.setdefault("files", {"sales": "raw_sales", "events": "raw_events"})
    return Plan(
        "my_shop",
        "var/my_shop",
        raw,
        guesses=guesses,
        sale_attributes=attribute_columns(samples["sales"], key, used),
        user_attributes={},
        **others,
    )


SALES = {
    "offer_id": ["o1", "o2"],
    "title": ["A b", "C d"],
    "price": ["1,5", "2,0"],
    "opens": ["2025-03-01"] * 2,
    "closes": ["2025-03-04"] * 2,
}
EVENTS = {"user": ["u1", "u2"], "offer_id": ["o1", "o2"], "at": ["2025-03-01 10:00"] * 2, "action": ["view", "buy"]}
WITHOUT_WINDOWS = {name: values for name, values in SALES.items() if name not in ("opens", "closes")}


def bare(sql: str) -> str:
    """SQL without comments, in one line."""
    return " ".join(" ".join(line for line in sql.splitlines() if not line.strip().startswith("--")).split())


def test_sales_with_windows_are_selected_from_their_columns():
    text = bare(sql_files(plan(SALES, EVENTS, zone="Europe/Paris"))["sales.sql"])
    assert text == (
        "select offer_id as sale_id, "
        "to_utc_timestamp(try_cast(opens as timestamp), 'Europe/Paris') as opens_at, "
        "to_utc_timestamp(try_cast(closes as timestamp), 'Europe/Paris') as closes_at, "
        "title, try_cast(replace(replace(price, '.', ''), ',', '.') as double) as price, "
        "cast(map() as map<string, string>) as attributes from {raw_sales}"
    )


def test_kinds_are_mapped_and_carts_are_said_to_be_visits():
    kinds = {"view": "visit", "add_to_cart": "visit", "buy": "purchase", "refund": "neither", "it's": "neither"}
    text = sql_files(plan(SALES, EVENTS, kinds=kinds))["events.sql"]
    assert "-- add_to_cart: a cart counts as a visit" in text
    assert (
        "case kind when 'view' then 'visit' when 'add_to_cart' then 'visit' when 'buy' then 'purchase' else kind end "
        "as kind" in bare(text)
    )
    assert bare(text).endswith("from named where coalesce(kind, '') not in ('refund', 'it\\'s')")
    assert "-- refund and it's: neither visits nor purchases" in text


def test_configuration_of_the_past_starts_on_the_morning_after():
    found = yaml.safe_load(configuration(plan(SALES, EVENTS, last_event=LAST)))
    assert found["as_of"] == datetime(2025, 5, 7, tzinfo=UTC)
    assert found["serving"] == {"clock": "replay"}
    assert found["source"] == {
        "sql": "conf/sources/my_shop",
        "raw": {
            "raw_sales": {"path": "s.csv", "format": "csv", "options": {"sep": ";"}},
            "raw_events": {"path": "e.parquet"},
        },
    }
    assert "recommenders" not in found


def test_configuration_of_a_shop_that_goes_on_has_no_instant():
    found = yaml.safe_load(configuration(plan(SALES, EVENTS)))
    assert found.keys() == {"extends", "folder", "source"}


@pytest.mark.parametrize(
    ("left_out", "without"),
    [(("opens", "closes"), ["hours_open", "hours_left"]), (("closes",), ["hours_left"]), (("opens",), ["hours_open"])],
)
def test_features_of_windows_that_events_give_are_left_out(left_out, without):
    sales = {name: values for name, values in SALES.items() if name not in left_out}
    found = yaml.safe_load(configuration(plan(sales, EVENTS)))
    assert found["recommenders"] == {"without": without}
    assert "a backtest flatters" in found["note"]


def test_windows_follow_the_events_that_are_used():
    text = bare(sql_files(plan(WITHOUT_WINDOWS, EVENTS, kinds={"refund": "neither"}, margin_days=7))["sales.sql"])
    assert "windows as ( select sale_id, min(occurred_at) as first_event_at, max(occurred_at) as last_event_at" in text
    assert "where coalesce(kind, '') not in ('refund') group by sale_id" in text
    assert "first_event_at as opens_at, last_event_at + interval 7 day as closes_at" in text
    assert "one_per_id" not in text


def test_of_several_rows_of_a_sale_the_first_with_a_title_is_used():
    text = bare(sql_files(plan(WITHOUT_WINDOWS, EVENTS, has_copies=True))["sales.sql"])
    assert "min_by( struct(title, price, attributes), struct(title = sale_id, price <= 0, title, price) )" in text
    assert "from (select sale_id, first_row.* from one_per_id) inner join windows" in text


def test_events_of_several_files_are_one_after_the_other_and_name_the_sales_together():
    clicks = {"user": ["u1", "u2"], "offer_id": ["o1", "o2"], "at": ["2025-03-01 10:00"] * 2}
    buys = {"client": ["u1", "u2"], "offer_id": ["o1", "o3"], "on": ["2025-03-01 10:00"] * 2, "qty": [1, 2]}
    made = plan(
        clicks,
        clicks,
        events_2=buys,
        every_kind={"events": "visit", "events_2": "purchase"},
        files={"sales": "raw_events", "events": "raw_events", "events_2": "raw_events_2"},
    )
    assert bare(sql_files(made)["events.sql"]) == (
        "with named as ( select `user` as user_id, offer_id as sale_id, 'visit' as kind, "
        "try_cast(at as timestamp) as occurred_at, null as quantity from {raw_events} union all "
        "select client as user_id, offer_id as sale_id, 'purchase' as kind, "
        "try_cast(`on` as timestamp) as occurred_at, cast(qty as double) as quantity from {raw_events_2} ) "
        "select user_id, sale_id, kind, occurred_at from named"
    )
    sales = bare(sql_files(made)["sales.sql"])
    assert "from {raw_events} union all select" in sales
    assert sales.endswith(
        "coalesce(title, sale_id) as title, coalesce(attributes, cast(map() as map<string, string>)) as attributes "
        "from named right join windows using (sale_id) -- of the other events' sales only the id is known"
    )


def test_revenue_is_pieces_times_price_of_purchases():
    events = {**EVENTS, "qty": [1, 2], "unit_price": [2.5, 3.0]}
    text = bare(sql_files(plan(SALES, events, kinds={"view": "visit", "buy": "purchase"}))["events.sql"])
    assert "cast(qty as double) * cast(unit_price as double) as revenue from {raw_events}" in text
    assert "case when kind in ('buy') then revenue end as revenue from named" in text


def test_revenue_of_a_log_without_pieces_is_the_price():
    text = bare(sql_files(plan(SALES, {**EVENTS, "price": [2.5, 3.0]}, kinds={"buy": "purchase"}))["events.sql"])
    assert "cast(price as double) as revenue from {raw_events} )" in text


def test_rows_that_are_no_events_of_a_user_are_left_out_and_counted():
    counts = EventCounts(1000, {}, 0, 0, without_user=250, without_sale=0, returns=10, placeholders=("unknown",))
    assert conditions(counts) == {
        "trim(user_id) <> ''": "25.00% of the 1,000 rows have no user",
        "coalesce(quantity, 1) > 0": "1.00% of the 1,000 rows have no positive quantity, as returns",
        "user_id not in ('unknown')": "ids that systems write where they know no user",
    }


def test_braces_and_line_ends_of_names_neither_name_raw_tables_nor_end_comments():
    sales = {**SALES, "na{me\nx": ["a", "a"]}
    sales = {name.replace("title", "tit{le\n; drop"): values for name, values in sales.items()}
    made = plan(sales, EVENTS)
    text = sql_files(made)["sales.sql"]
    assert "`tit{{le\n; drop` as title" in text
    assert "-- title: tit{{le\\n; drop, the text with the most values" in text
    assert text.format(raw_sales="raw_sales")  # all other braces are doubled


def test_encodings_that_spark_does_not_know_by_itself_are_allowed():
    made = plan(SALES, EVENTS)
    assert spark_conf(made) == {}
    raw = {"raw_sales": RawTable(path="s.csv", format="csv", options={"encoding": "windows-1252"})}
    made = Plan("a", "var/a", raw, made.files, made.guesses, {}, {})
    assert spark_conf(made) == {"spark.sql.legacy.javaCharsets": "true"}
    assert yaml.safe_load(configuration(made))["spark"] == {"conf": spark_conf(made)}
