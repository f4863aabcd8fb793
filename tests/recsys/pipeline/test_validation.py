import json
from collections import Counter
from collections.abc import Callable

import pytest

from recsys.erasure.logs_and_tables import hash_of
from recsys.errors import EmptyInputError, RejectedRowsError
from recsys.instants import to_micros
from recsys.pipeline import validation
from recsys.pipeline.validation import EVENT_RULES, SALE_RULES, USER_RULES, Rule, RuleCount, check_counts
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
        for row in validation.flag_sales(frame("sales", rows)).select("title", "rule").collect()
    }


@pytest.fixture
def flag_events(frame) -> Callable:
    """Flag events of two sales: s1 open from -48 to 48 hours after AS_OF, s2 from -2 to 3."""
    sales = [sale("s1"), sale("s2", -2, 3)]
    return lambda rows: validation.flag_events(frame("events", rows), frame("sales", sales), to_micros(AS_OF))


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
    ({"price": -0.01}, "price_valid"),
    ({"price": 0.0}, "price_valid"),
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
    ({"revenue": float("nan")}, "revenue_finite"),
    ({"revenue": float("-inf")}, "revenue_finite"),
    ({"revenue": -5.0}, None),  # a discount can exceed a price
    ({"occurred_at": at(0)}, "known_as_of"),
    ({"occurred_at": at(1), "kind": "purchase"}, "known_as_of"),
    ({}, None),
    ({"kind": "purchase"}, None),
    ({"kind": "purchase", "sale_id": "s2", "occurred_at": at(-2)}, None),  # the instant it opens
    ({"kind": "purchase", "sale_id": "s2", "occurred_at": at(-2.001)}, "purchase_while_open"),
    ({"kind": "visit", "sale_id": "s2", "occurred_at": at(-9)}, None),  # a preview
]


@pytest.fixture(scope="module")
def flagged_sales(spark) -> list[str | None]:
    """The rule that the sale of each case breaks, all of them in one table; the description tells them apart."""
    rows = [{**sale(f"s{n}"), "description": str(n), **changes} for n, (changes, _) in enumerate(SALE_CASES)]
    flagged = validation.flag_sales(spark.createDataFrame(raw_table("sales", rows)))
    rules = {int(row["description"]): row["rule"] for row in flagged.collect()}
    return [rules[number] for number in range(len(SALE_CASES))]


@pytest.fixture(scope="module")
def flagged_events(spark) -> list[str | None]:
    """The rule that the event of each case breaks, all of them in one table; `recorded_at` tells them apart."""
    rows = [{**event("u1", "s1", -1), "recorded_at": at(n), **changes} for n, (changes, _) in enumerate(EVENT_CASES)]
    frames = [spark.createDataFrame(raw_table("events", rows))]
    frames.append(spark.createDataFrame(raw_table("sales", [sale("s1"), sale("s2", -2, 3)])))
    flagged = validation.flag_events(*frames, to_micros(AS_OF)).orderBy("recorded_at")
    return [row["rule"] for row in flagged.select("rule", "recorded_at").collect()]


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
    assert cases == {rule.name for rule in SALE_RULES + EVENT_RULES} - {"sale_id_unique"}


def test_first_to_open_of_sales_with_the_same_id_is_used(rules_of_sales):
    rows = [sale("s1", -2, title="third"), sale("s1", -9, title="first"), sale("s1", -5, title="second")]
    assert rules_of_sales(rows) == {"first": None, "second": "sale_id_unique", "third": "sale_id_unique"}


def test_valid_copy_is_used_if_the_other_copy_breaks_a_rule(rules_of_sales):
    rows = [sale("s1", -2, title="good"), sale("s1", -9, title="free", price=0.0), sale("s1", None, title="undated")]
    assert rules_of_sales(rows) == {"good": None, "free": "price_valid", "undated": "sale_instants_present"}


def test_one_of_several_users_with_the_same_id_is_used(spark):
    users = spark.createDataFrame(
        [("u1", {"market": "fr"}), ("u1", {"market": "de"}), ("u2", None), ("", None), (LONG, None), ("a\rb", None)],
        "user_id string, attributes map<string, string>",
    )
    rules = Counter(row["rule"] for row in validation.flag_users(users).collect())
    broken = ["user_id_unique", "user_id_present", "user_id_short", "user_id_printable"]
    assert rules == {None: 2, **dict.fromkeys(broken, 1)}


def test_event_at_the_close_of_its_sale_is_outside_its_window(frame):
    sales, closed = frame("sales", [sale("s1", -5, -1)]), event("u1", "s1", -1, "purchase")
    assert validation.flag_events(frame("events", [closed]), sales, to_micros(AS_OF)).first()["rule"] == (
        "purchase_while_open"
    )


def test_unusual_user_ids_are_unchanged(flag_events):
    ids = {"Zoë d'Arc", 'a "quoted" id', "slash/back\\slash", "日本語🏖", " spaces ", "%2F", "${env}", "'; drop--"}
    rows = flag_events([event(user_id, "s1", -1) for user_id in ids]).collect()
    assert {(row["user_id"], row["rule"]) for row in rows} == {(user_id, None) for user_id in ids}


def test_missing_recorded_at_becomes_occurred_at(flag_events):
    rows = [event("u1", "s1", -2), event("u2", "s1", -2, recorded_at=at(-1))]
    assert {row["user_id"]: row["recorded_at"] for row in flag_events(rows).collect()} == {
        "u1": at(-2).replace(tzinfo=None),
        "u2": at(-1).replace(tzinfo=None),
    }


def test_first_recorded_copy_of_an_event_is_used_and_the_others_are_set_aside(frame):
    events = frame(
        "events",
        [
            event("u1", "s1", -5, recorded_at=at(-3), revenue=7.0),
            event("u1", "s1", -5, recorded_at=at(-4), revenue=None),
            event("u1", "s1", -5, recorded_at=at(-1), revenue=9.0),
            event("u1", "s1", -5, "purchase", recorded_at=at(-4)),  # of another kind: another event
            event("u1", "s1", -6, recorded_at=at(-4)),
        ],
    )
    used = {(r["kind"], r["occurred_at"]): r for r in validation.first_copies(events).collect()}
    assert len(used) == 3
    copy = used["visit", at(-5).replace(tzinfo=None)]
    assert (copy["recorded_at"], copy["revenue"]) == (at(-4).replace(tzinfo=None), 9.0)
    later = validation.later_copies(events).collect()
    assert sorted(row["revenue"] for row in later) == [7.0, 9.0]
    assert {row["rule"] for row in later} == {"event_unique"}


def test_action_of_the_rule_decides_whether_a_row_is_usable_or_set_aside(flag_events):
    flagged = flag_events(
        [
            event("good", "s1", -1),
            event("early", "s2", -9, "purchase"),
            event("bad", "s1", -1, "refund"),
            event("later", "s1", 1),
        ]
    )
    users = {
        choose.__name__: {row["user_id"] for row in choose(flagged, EVENT_RULES).collect()}
        for choose in (validation.usable, validation.used_despite_rule, validation.set_aside)
    }
    assert users == {"usable": {"good", "early"}, "used_despite_rule": {"early"}, "set_aside": {"bad"}}


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


def test_kept_and_not_yet_known_events_are_not_rejected():
    check_counts(counts_of("events", 10, {"known_as_of": 5, "purchase_while_open": 5}, EVENT_RULES), 0)


@pytest.mark.parametrize(
    ("table", "rules", "rows", "broken", "why"),
    [
        ("sales", SALE_RULES, 0, {}, "the source has none"),
        ("events", EVENT_RULES, 0, {}, "the source has none"),
        ("sales", SALE_RULES, 3, {"price_valid": 3}, "3 break 'price_valid'"),
        ("events", EVENT_RULES, 4, {"known_as_of": 3, "kind_known": 1}, "1 break 'kind_known', 3 break 'known_as_of'"),
    ],
)
def test_table_without_a_usable_row_is_an_error_that_says_why(table, rules, rows, broken, why):
    with pytest.raises(EmptyInputError) as error:
        check_counts(counts_of(table, rows, broken, rules), 1.0)
    assert f"table {table} has 0 rows that can be used, needs at least 1 ({why})" in str(error.value)


def test_users_may_be_empty():
    check_counts(counts_of("users", 0, {}, USER_RULES), 0)


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
