import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from recsys.erasure.logs_and_tables import hash_of
from recsys.errors import EmptyInputError, RejectedRowsError
from recsys.ids import INVISIBLE, trimmed
from recsys.instants import EARLIEST, LATEST, to_micros
from recsys.pipeline import row_rules, validation
from recsys.pipeline.row_rules import (
    EVENT_RULES,
    EVENT_UNIQUE,
    IMAGE_COPY_RULES,
    IMAGE_RULES,
    SALE_COPY_RULES,
    SALE_RULES,
    USER_COPY_RULES,
    USER_RULES,
    Activity,
    Rule,
    RuleCount,
    check_counts,
)
from recsys.shop.catalogue import Catalogue
from recsys.tables.night import EVENTS, SALES
from tests.helpers.small_shop import AS_OF, RAW_TYPES, at, event, raw_table, sale

LONG = "x" * 10_240


@pytest.fixture
def frame(spark) -> Callable:
    """Make a frame of raw rows."""
    return lambda name, rows: spark.createDataFrame(raw_table(name, rows))


@pytest.fixture
def rules_of_sales(frame) -> Callable:
    """Flag sales; return the rule of each title."""
    return lambda rows: {
        row["title"]: row["rule"]
        for row in validation.flag_sales(frame("sales", rows), to_micros(AS_OF)).select("title", "rule").collect()
    }


def windows_of(spark, sales):
    """Return the windows of raw rows of sales, computed once as in a night: planning that takes most of a test."""
    flagged = validation.flag_sales(spark.createDataFrame(raw_table("sales", sales)), to_micros(AS_OF))
    return spark.createDataFrame(validation.sale_windows(flagged).toArrow())


def flag(events, windows):
    """Flag events as of AS_OF, two hours before the present."""
    return validation.flag_events(events, windows, to_micros(AS_OF), to_micros(at(2)))


SALES_OF_EVENTS = [
    sale("s1"),
    sale("s2", -2, 3),
    sale("dear", price=-1.0),
    sale("again", -30, -20),
    sale("again", -2, 3),
]
"""s1 is open from -48 to 48 hours after AS_OF, s2 from -2 to 3, `again` for the second time; `dear` is broken."""


@pytest.fixture(scope="module")
def windows(spark):
    """The windows of SALES_OF_EVENTS."""
    return windows_of(spark, SALES_OF_EVENTS)


@pytest.fixture
def flag_events(frame, windows) -> Callable:
    """Flag events of SALES_OF_EVENTS."""
    return lambda rows: flag(frame("events", rows), windows)


RANGE = "sale_instants_in_range"
SALE_CASES = [
    ({"sale_id": None}, "sale_id_present"),
    ({"sale_id": ""}, "sale_id_present"),
    ({"sale_id": LONG}, "sale_id_short"),
    ({"sale_id": "é" * 129}, "sale_id_short"),  # 258 bytes, the limit counts bytes
    ({"sale_id": "two\nlines"}, "sale_id_printable"),
    ({"sale_id": "tab\there"}, "sale_id_printable"),
    ({"opens_at": None}, "sale_instants_present"),
    ({"closes_at": None}, "sale_instants_present"),
    ({"opens_at": at(5), "closes_at": at(4)}, "sale_closes_after_it_opens"),
    ({"opens_at": at(5), "closes_at": at(5)}, "sale_closes_after_it_opens"),
    ({"title": "  "}, "title_present"),
    ({"title": None}, "title_present"),
    ({"title": "\u00a0\u200b\t"}, "title_present"),
    ({"opens_at": datetime(2200, 1, 1, tzinfo=UTC), "closes_at": datetime(2200, 1, 2, tzinfo=UTC)}, RANGE),
    ({"opens_at": datetime(9999, 1, 1, tzinfo=UTC), "closes_at": datetime(9999, 12, 31, tzinfo=UTC)}, RANGE),
    ({"opens_at": datetime(1, 1, 1, tzinfo=UTC), "closes_at": datetime(1990, 1, 1, tzinfo=UTC)}, RANGE),
    ({"opens_at": datetime(1, 1, 1, tzinfo=UTC), "closes_at": datetime(9999, 12, 31, tzinfo=UTC)}, None),
    ({"opens_at": datetime(1500, 2, 28, tzinfo=UTC), "closes_at": datetime(2300, 1, 1, tzinfo=UTC)}, None),
    ({"sale_id": "Null"}, "sale_id_meant"),
    ({"sale_id": "000"}, "sale_id_meant"),
    ({"title": "caf\ufffd"}, "sale_text_decoded"),
    ({"attributes": {"region": "\ufffdle"}}, "sale_text_decoded"),
    ({"sale_id": "\u200b \ufeff"}, "sale_id_present"),
    ({"price": -0.01}, "price_valid"),
    ({"price": 0.0}, None),  # a free sale
    ({"price": float("nan")}, "price_valid"),
    ({"price": float("inf")}, "price_valid"),
    ({}, None),
    ({"sale_id": 'Étape d\'été "ski" / \\ 日本 🏖'}, None),
    ({"sale_id": "x" * 256}, None),
    ({"price": None}, None),
    ({"price": 0.01}, None),
    ({"attributes": {"country": "", "": "é"}}, None),
    ({"opens_at": at(4), "closes_at": at(4.001)}, None),
]
EVENT_CASES = [
    ({"user_id": None}, "user_id_present"),
    ({"user_id": ""}, "user_id_present"),
    ({"user_id": LONG}, "user_id_short"),
    ({"user_id": "null\0byte"}, "user_id_printable"),
    ({"user_id": "two\nlines"}, "user_id_printable"),
    ({"user_id": "line\u2028separator"}, None),  # odd, but no control character
    ({"kind": None}, "kind_known"),
    ({"kind": "Visit"}, "kind_known"),
    ({"kind": "refund"}, "kind_known"),
    ({"occurred_at": None}, "occurred_at_present"),
    ({"sale_id": "unknown"}, "sale_known"),
    ({"sale_id": None}, "sale_known"),
    ({"sale_id": LONG}, "sale_known"),
    ({"sale_id": "dear"}, "sale_usable"),
    ({"occurred_at": datetime(1970, 1, 21, tzinfo=UTC)}, "event_in_range"),  # milliseconds read as microseconds
    ({"occurred_at": datetime(2200, 1, 1, tzinfo=UTC)}, "event_in_range"),
    ({"occurred_at": at(-1), "recorded_at": datetime(9999, 1, 1, tzinfo=UTC)}, "event_in_range"),
    ({"occurred_at": at(2)}, "known_as_of"),
    ({"occurred_at": at(2.001)}, "event_in_the_past"),
    ({"recorded_at": at(2.001)}, "event_in_the_past"),
    ({"user_id": "NULL "}, "user_id_meant"),
    ({"user_id": "00000000-0000-0000-0000-000000000000"}, "user_id_meant"),
    ({"user_id": "\u00a0"}, "user_id_present"),
    ({"user_id": "nullius"}, None),
    ({"user_id": "10"}, None),
    ({"revenue": float("nan")}, "revenue_finite"),
    ({"revenue": float("-inf")}, "revenue_finite"),
    ({"revenue": 1e16}, "revenue_finite"),
    ({"revenue": -5.0}, None),  # a discount can exceed a price
    ({"occurred_at": at(0)}, "known_as_of"),
    ({"occurred_at": at(1), "kind": "purchase"}, "known_as_of"),
    ({}, None),
    ({"kind": "purchase"}, None),
    ({"kind": "purchase", "sale_id": "s2", "occurred_at": at(-2)}, None),  # the instant it opens
    ({"kind": "purchase", "sale_id": "s2", "occurred_at": at(-2.001)}, "purchase_while_open"),
    ({"kind": "visit", "sale_id": "s2", "occurred_at": at(-9)}, None),  # a preview
    ({"kind": "purchase", "sale_id": "again", "occurred_at": at(-25)}, None),  # in the sale's earlier window
    ({"kind": "purchase", "sale_id": "again", "occurred_at": at(-9)}, "purchase_while_open"),  # between the two
]


@pytest.fixture(scope="module")
def flagged_sales(spark) -> list[str | None]:
    """The rule that the sale of each case breaks, all of them in one table; the description tells them apart."""
    rows = [{**sale(f"s{n}"), "description": str(n), **changes} for n, (changes, _) in enumerate(SALE_CASES)]
    flagged = validation.flag_sales(spark.createDataFrame(raw_table("sales", rows)), to_micros(AS_OF))
    rules = {int(row["description"]): row["rule"] for row in flagged.select("description", "rule").collect()}
    return [rules[number] for number in range(len(SALE_CASES))]


@pytest.fixture(scope="module")
def flagged_events(spark, windows) -> list[str | None]:
    """The rule that the event of each case breaks, all of them in one table; `case` tells them apart."""
    raw = raw_table("events", [{**event("u1", "s1", -1), **changes} for changes, _ in EVENT_CASES])
    numbered = spark.createDataFrame(raw.append_column("case", pa.array(range(len(EVENT_CASES)))))
    rules = {row["case"]: row["rule"] for row in flag(numbered, windows).select("case", "rule").collect()}
    return [rules[number] for number in range(len(EVENT_CASES))]


def case_name(value: object) -> str:
    return str(value)[:40]


@pytest.mark.parametrize("case", range(len(SALE_CASES)), ids=lambda case: case_name(SALE_CASES[case]))
def test_sale_carries_the_name_of_the_rule_that_it_breaks(flagged_sales, case):
    assert flagged_sales[case] == SALE_CASES[case][1]


@pytest.mark.parametrize("case", range(len(EVENT_CASES)), ids=lambda case: case_name(EVENT_CASES[case]))
def test_event_carries_the_name_of_the_rule_that_it_breaks(flagged_events, case):
    assert flagged_events[case] == EVENT_CASES[case][1]


def test_every_rule_has_a_case_that_breaks_it():
    cases = {rule for _, rule in SALE_CASES + EVENT_CASES} - {None}
    about_several_rows = {"sale_copy", "sale_window", "sale_id_unique"}
    assert cases == {rule.name for rule in SALE_RULES + SALE_COPY_RULES + EVENT_RULES} - about_several_rows


@pytest.mark.parametrize(
    ("windows", "used"),
    [
        ([(-900, -800), (-100, 50), (-700, -600)], 1),  # the one that is open
        ([(-900, -800), (20, 50), (200, 300)], 1),  # the next to open
        ([(-900, -800), (-300, -200), (-700, -600)], 1),  # the last one
        ([(-2, 10), (-2, 48), (-2, 5)], 1),  # extended: the last to close
        ([(-2, 5), (400, 500)], 0),  # opens again in two weeks
        ([(400, 500), (-5, 0)], 0),  # closes at as_of: is over
        ([(0, 5), (-9, 0)], 0),  # opens at as_of: is open
    ],
)
def test_window_of_a_sale_that_opens_several_times(rules_of_sales, windows, used):
    rows = [sale("s1", *window, title=str(number)) for number, window in enumerate(windows)]
    expected = dict.fromkeys(map(str, range(len(rows))), "sale_window") | {str(used): None}
    assert rules_of_sales(rows) == expected


def test_equal_rows_of_a_sale_are_copies_and_others_of_the_same_window_are_a_contradiction(rules_of_sales, frame):
    ab, ba = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    rows = [sale("s1", title=title, attributes=ab) for title in "ABA"]
    rows.append(sale(" s1\n", title="A", attributes=ba))
    flagged = validation.flag_sales(frame("sales", rows), to_micros(AS_OF))
    assert Counter((row["title"], row["rule"]) for row in flagged.collect()) == {
        ("A", None): 1,
        ("A", "sale_copy"): 2,
        ("B", "sale_id_unique"): 1,
    }
    assert {row["sale_id"] for row in flagged.collect()} == {"s1"}


def test_valid_copy_is_used_if_the_other_copy_breaks_a_rule(rules_of_sales):
    rows = [sale("s1", -2, title="good"), sale("s1", -9, title="dear", price=-1.0), sale("s1", None, title="undated")]
    assert rules_of_sales(rows) == {"good": None, "dear": "price_valid", "undated": "sale_instants_present"}


def test_window_beyond_the_range_is_kept_as_its_ends(frame):
    always = {"opens_at": datetime(1, 1, 1, tzinfo=UTC), "closes_at": datetime(9999, 12, 31, tzinfo=UTC)}
    flagged = validation.flag_sales(frame("sales", [{**sale("s1"), **always}, sale("s2", -1, 2)]), to_micros(AS_OF))
    windows = flagged.selectExpr("unix_micros(opens_at)", "unix_micros(closes_at)").collect()
    assert sorted(map(tuple, windows)) == [(EARLIEST, LATEST), (to_micros(at(-1)), to_micros(at(2)))]


def test_one_of_several_users_with_the_same_id_is_used(spark):
    users = spark.createDataFrame(
        [
            *[("u1", {"market": "fr"}), ("u1", {"market": "de"}), ("u1 ", {"market": "de"})],
            *[("u2", None), ("", None), (LONG, None), ("a\rb", None)],
        ],
        "user_id string, attributes map<string, string>",
    )
    rules = Counter(row["rule"] for row in validation.flag_users(users).collect())
    broken = ["user_copy", "user_id_unique", "user_id_present", "user_id_short", "user_id_printable"]
    assert rules == {None: 2, **dict.fromkeys(broken, 1)}


def test_event_at_the_close_of_its_sale_is_outside_its_window(spark, frame):
    windows, closed = windows_of(spark, [sale("s1", -5, -1)]), event("u1", "s1", -1, "purchase")
    assert flag(frame("events", [closed]), windows).first()["rule"] == "purchase_while_open"


def test_unusual_user_ids_are_unchanged(flag_events):
    ids = {"Zoë d'Arc", 'a "quoted" id', "slash/back\\slash", "日本語🏖", "two words", "%2F", "${env}", "'; drop--"}
    rows = flag_events([event(user_id, "s1", -1) for user_id in ids]).collect()
    assert {(row["user_id"], row["rule"]) for row in rows} == {(user_id, None) for user_id in ids}


def test_ids_are_trimmed_as_the_service_trims_them(flag_events):
    ids = [" u1", "u1\u00a0", "\ufeffu1\r\n", "u1\u200b\t", "u 1", INVISIBLE + "u1" + INVISIBLE]
    flagged = flag_events([event(user_id, "s1\u3000", -1) for user_id in ids]).collect()
    assert Counter((row["user_id"], row["sale_id"], row["rule"]) for row in flagged) == {
        ("u1", "s1", None): 5,
        ("u 1", "s1", None): 1,
    }
    assert {trimmed(user_id) for user_id in ids} == {"u1", "u 1"}


def test_ids_of_any_first_and_last_characters_are_trimmed_as_the_service_trims_them(flag_events):
    ends = ["", "!", "~", "a", " ", "\x7f", "\x80", "\xa0", "é", "日", "🏖", "\u200b", "\ufeff"]
    ids = {first + middle + last for first in ends for middle in ("", "b", "b\u00a0b") for last in ends}
    found = {row["user_id"] for row in flag_events([event(user_id, "s1", -1) for user_id in ids]).collect()}
    assert found == {trimmed(user_id) for user_id in ids}


def test_missing_recorded_at_becomes_occurred_at(flag_events):
    rows = [event("u1", "s1", -2), event("u2", "s1", -2, recorded_at=at(-1))]
    assert {row["user_id"]: row["recorded_at"] for row in flag_events(rows).collect()} == {
        "u1": at(-2).replace(tzinfo=None),
        "u2": at(-1).replace(tzinfo=None),
    }


def test_action_of_the_rule_decides_whether_a_row_is_usable_or_set_aside(flag_events):
    flagged = flag_events(
        [
            event("good", "s1", -1),
            event("early", "s2", -9, "purchase"),
            event("bad", "s1", -1, "refund"),
            event("of broken sale", "dear", -1),
            event("later", "s1", 1),
        ]
    )
    users = {
        choose.__name__: {row["user_id"] for row in choose(flagged, EVENT_RULES).collect()}
        for choose in (
            *(validation.usable, validation.used_despite_rule),
            *(validation.set_aside, validation.not_set_aside),
        )
    }
    assert users == {
        "usable": {"good", "early"},
        "used_despite_rule": {"early"},
        "set_aside": {"bad", "of broken sale"},
        "not_set_aside": {"good", "early", "later"},
    }


def test_rejected_row_is_the_whole_row_as_json(flag_events):
    flagged = flag_events([event("u1", "s1", -1, 'odd "kind" \\ é', revenue=2.5)])
    (row,) = validation.rejected_rows(validation.set_aside(flagged, EVENT_RULES), EVENTS).collect()
    assert (row["table"], row["rule"]) == ("events", "kind_known")
    assert json.loads(row["row"]) == {
        "user_id": "u1",
        "sale_id": "s1",
        "kind": 'odd "kind" \\ é',
        "occurred_at": "2026-02-28T23:00:00.000Z",
        "recorded_at": "2026-02-28T23:00:00.000Z",
        "revenue": 2.5,
    }


def test_each_broken_rule_has_at_most_three_examples_that_are_always_the_same(flag_events):
    rows = [event(f"u{number}", "s1", -1, "refund") for number in range(9)] + [event("u1", "s9", -1)]
    flagged = flag_events(rows)
    counts = [
        RuleCount("events", rule, 10, {"kind_known": 9, "sale_known": 1}.get(rule.name, 0)) for rule in EVENT_RULES
    ]
    runs = [
        validation.with_examples(counts, validation.rejected_rows(flagged.repartition(parts), EVENTS))
        for parts in (1, 4)
    ]
    assert runs[0] == runs[1]
    examples = {count.rule.name: count.examples for count in runs[0] if count.examples}
    assert {name: len(rows) for name, rows in examples.items()} == {"kind_known": 3, "sale_known": 1}
    assert all('"kind":"refund"' in row for row in examples["kind_known"])


def counts_of(table: str, rows: int, broken: dict[str, int], rules: tuple[Rule, ...]) -> list[RuleCount]:
    return [RuleCount(table, rule, rows, broken.get(rule.name, 0), ('{"a": 1}',)) for rule in rules]


def test_share_of_rejected_rows_may_equal_the_limit_but_not_exceed_it():
    counts = counts_of("sales", 200, {"price_valid": 2, "title_present": 1}, SALE_RULES)
    check_counts(counts, 0.015)
    with pytest.raises(RejectedRowsError) as error:
        check_counts(counts, 0.0149)
    for part in ("table sales: 3 of 200 rows", "1.49%", "source.max_rejected_share", "price_valid", '{"a": 1}'):
        assert part in str(error.value)


def test_message_names_the_rule_with_the_most_broken_rows_and_shows_one():
    counts = counts_of("events", 1000, {"sale_known": 30, "kind_known": 40, "known_as_of": 900}, EVENT_RULES)
    with pytest.raises(
        RejectedRowsError, match=r"70 of 1,000 .* most break 'kind_known' \(kind is visit or purchase\)"
    ):
        check_counts(counts, 0.05)


def test_rows_without_harm_are_not_rejected():
    copies = RuleCount("events", EVENT_UNIQUE, 12, 2)
    harmless = {"known_as_of": 4, "purchase_while_open": 3, "sale_usable": 3}
    check_counts([*counts_of("events", 12, harmless, EVENT_RULES), copies], 0)
    check_counts(counts_of("sales", 9, {"sale_copy": 4, "sale_window": 4}, SALE_RULES + SALE_COPY_RULES), 0)
    check_counts(counts_of("sale_images", 9, {"sale_usable": 4, "image_copy": 4}, IMAGE_RULES + IMAGE_COPY_RULES), 0)
    check_counts(counts_of("users", 9, {"user_copy": 8}, USER_RULES + USER_COPY_RULES), 0)


def test_what_the_public_sent_refuses_no_source_and_dilutes_nothing():
    public = counts_of("recorded_events", 5000, {"sale_known": 5000}, row_rules.as_sent_by_the_public(EVENT_RULES))
    ours = counts_of("events", 1000, {"kind_known": 3}, EVENT_RULES)
    check_counts([*public, *ours], 0.01, events_of_shop=300)
    with pytest.raises(RejectedRowsError, match="table events: 3 of 299 rows"):
        check_counts([*public, *ours], 0.01, events_of_shop=299)


@pytest.mark.parametrize(
    ("rows", "broken", "why"), [(0, {}, "the source has none"), (3, {"price_valid": 3}, "3 break 'price_valid'")]
)
def test_table_without_a_usable_sale_is_an_error_that_says_why(rows, broken, why):
    with pytest.raises(EmptyInputError) as error:
        check_counts(counts_of("sales", rows, broken, SALE_RULES), 1.0)
    assert f"table sales has 0 rows that can be used, needs at least 1 ({why})" in str(error.value)


def test_summary_names_what_is_set_aside_without_harm():
    public = counts_of("recorded_events", 9, {"sale_known": 4}, row_rules.as_sent_by_the_public(EVENT_RULES))
    ours = counts_of("events", 20, {"kind_known": 1, "sale_usable": 5, "known_as_of": 1}, EVENT_RULES)
    assert row_rules.summary([*public, *ours]) == (
        "1 row set aside, 9 more without harm (5 sale_usable, 4 recorded_events.sale_known), 1 event not known yet"
    )
    assert row_rules.summary(counts_of("events", 20, {}, EVENT_RULES)) == "0 rows set aside"


def test_activity_is_that_of_the_events(frame):
    rows = [event("bot", "s1", -2 - n) for n in range(150)] + [event(f"u{n}", "s1", -1 - n) for n in range(4)]
    found = validation.activity(frame("events", rows), len(rows))
    assert found == Activity(154, 5, to_micros(at(-1)), {"bot": 150})
    assert validation.activity(frame("events", []), 0) == Activity(0, 0, None, {})


def counts_of_activity(**changes: object) -> list[RuleCount]:
    found = Activity(1000, 20, to_micros(at(-1)), {})._replace(**changes)
    return row_rules.counts_of_events(found, to_micros(AS_OF), 90)


def test_user_id_with_a_large_share_of_the_events_is_named():
    usual, recent = counts_of_activity(large={"bot": 249, "u1": 100})  # five times the mean is 250
    assert (usual.broken, recent.broken) == (0, 0)
    usual, _ = counts_of_activity(large={"bot": 250, "u1": 100})
    assert (usual.broken, usual.examples) == (250, ("'bot' has 250 of 1,000 events",))


def test_log_that_ended_before_the_histories_begin_says_how_to_run_a_night_of_the_past():
    assert counts_of_activity(last=to_micros(at(-24 * 90)))[1].passed
    _, recent = counts_of_activity(last=to_micros(at(-24 * 90 - 1)))
    assert recent.broken == 1000
    assert recent.examples == (
        "the last event is of 2025-11-30: for data of the past set 'as_of: 2025-12-01T00:00:00Z' and "
        "'serving.clock: replay'",
    )
    _, recent = counts_of_activity(events=0, users=0, last=None)
    assert (recent.passed, recent.examples) == (False, ("no event can be used",))


def test_night_without_an_open_sale_is_told_the_end_of_the_log_and_the_two_keys():
    catalogue = Catalogue.from_table(raw_table("sales", [sale("s1", -99, -50), sale("s2", 36, 40)]))
    last = to_micros(at(-51))
    count = row_rules.count_of_open_sales(catalogue, to_micros(AS_OF), 36, last)
    check_counts([*counts_of("sales", 2, {}, SALE_RULES), count], 0)  # a shop may be closed today
    assert count.broken == 2
    for part in (
        "no sale is open in [2026-03-01 00:00, 2026-03-02 12:00) UTC, the last one closes at 2026-03-02 16:00",
        "the last event is of 2026-02-26: for data of the past set 'as_of: 2026-02-27T00:00:00Z'",
        "'serving.clock: replay'",
    ):
        assert part in count.examples[0]
    assert row_rules.count_of_open_sales(catalogue, to_micros(AS_OF), 36.5, last).passed
    with pytest.raises(EmptyInputError, match=r"no sale is open in .*'serving.clock: replay'"):
        check_counts([*counts_of("sales", 2, {}, SALE_RULES), count, *counts_of_activity(last=to_micros(at(-3000)))], 0)
    check_counts([*counts_of("sales", 2, {}, SALE_RULES), count, *counts_of_activity(events=0, users=0, last=None)], 0)


def test_users_and_events_may_be_empty():
    check_counts(counts_of("users", 0, {}, USER_RULES), 0)
    check_counts(counts_of("events", 0, {}, EVENT_RULES), 0)  # on the first day of a shop


def test_columns_of_the_small_shops_are_those_of_the_tables():
    assert list(RAW_TYPES["sales"].names) == list(SALES.columns)
    assert list(RAW_TYPES["events"].names) == list(EVENTS.columns)


# Erased users.


def test_rows_of_erased_users_are_left_out_and_rows_without_a_user_stay(spark):
    rows = spark.createDataFrame([("ann",), ("ü b",), (None,), ("anna",)], "user_id string")
    left = validation.without_users(rows, [hash_of("ann"), hash_of("ü b")]).collect()
    assert [row["user_id"] for row in left] == [None, "anna"]
    sales = spark.createDataFrame([("ann",)], "sale_id string")
    assert validation.without_users(sales, [hash_of("ann")]).count() == 1
