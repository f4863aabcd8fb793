from datetime import UTC, date, datetime

import pytest

from recsys.onboarding.columns import Column, instants_of, is_cart, kind_of, numbers_of, quoted, words_of


@pytest.mark.parametrize(
    ("name", "values", "form", "has_zone"),
    [
        ("when", ["2026-03-01T10:00:00Z", "2026-03-01 10:00:00.5+01:00"], "ISO 8601 with zone", True),
        ("event_time", ["2019-10-01 00:00:00 UTC"], "ISO 8601 with zone", True),
        ("when", ["2026-03-01 10:00", "2026-03-01T10:00:00"], "ISO 8601", False),
        ("when", ["2026-03-01"], "dates", False),
        ("when", ["9999-12-31 00:00:00"], "ISO 8601", False),
        ("when", ["01.03.2026 08:05:09", "31.12.2026 23:00:00"], "d.M.yyyy H:mm:ss", False),
        ("InvoiceDate", ["12/1/10 8:26", "1/31/11 17:00"], "M/d/yy H:mm", False),
        ("when", ["31/12/2026"], "d/M/yyyy", False),
        ("when", ["2026/03/01"], "yyyy/M/d", False),
        ("when", ["3/13/2026 8:05:00 PM"], "M/d/yyyy h:mm:ss a", False),
        ("timestamp", [1772355600, 1772355601], "seconds since 1970", True),
        ("timestamp", ["1772355600123"], "milliseconds since 1970", True),
        ("created_at", [1772355600123456], "microseconds since 1970", True),
        ("ts", [1772355600123456789], "nanoseconds since 1970", True),
        ("ts", [1772355600.25], "seconds since 1970", True),
        ("date", [20260301, 20261231], "yyyyMMdd", False),
        ("when", [datetime(2026, 3, 1)], "timestamps", False),
        ("when", [datetime(2026, 3, 1, tzinfo=UTC)], "timestamps", True),
        ("when", [date(2026, 3, 1)], "dates", False),
    ],
)
def test_instants_are_known_by_their_form(name, values, form, has_zone):
    found = instants_of(values, name)
    assert found is not None
    assert (found.form, found.has_zone) == (form, has_zone)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("category_id", [2053013555631882655]),  # the digits of nanoseconds, and no word of time
        ("order_id", [1772355600]),
        ("price", ["12.50"]),
        ("version", ["1.2.3"]),
        ("title", ["2026-03-01", "a day"]),
        ("on", [True]),
        ("date", []),
        ("days", [3, 4]),
    ],
)
def test_other_values_are_no_instants(name, values):
    assert instants_of(values, name) is None


def test_one_value_of_another_form_in_twenty_is_allowed_for():
    assert instants_of(["2026-03-01"] * 19 + ["?"], "when") is not None
    assert instants_of(["2026-03-01"] * 18 + ["?"], "when") is None


def test_day_and_month_that_may_be_exchanged_are_not_sure():
    ambiguous = instants_of(["01/02/2026", "03/04/2026"], "when")
    assert ambiguous is not None
    assert not ambiguous.is_sure
    assert all(
        (found := instants_of([text], "when")) and found.is_sure for text in ("31/01/2026", "01.02.2026", "1/31/26")
    )


@pytest.mark.parametrize(
    ("values", "sql", "numbers"),
    [
        ([1, 2.5], "cast({} as double)", [1, 2.5]),
        (["12.50", "-3", "1e3"], "try_cast({} as double)", [12.5, -3, 1000]),
        (["12,50", "1.234,5"], "try_cast(replace(replace({}, '.', ''), ',', '.') as double)", [12.5, 1234.5]),
        (["1,234.50", "7"], "try_cast(replace({}, ',', '') as double)", [1234.5, 7]),
        (
            ["12,50 \u20ac", "3,00 \u20ac"],
            "try_cast(replace(replace(regexp_replace({}, '[^0-9.,eE+-]', ''), '.', ''), ',', '.') as double)",
            [12.5, 3],
        ),
        (["$5.00"], "try_cast(regexp_replace({}, '[^0-9.,eE+-]', '') as double)", [5]),
    ],
)
def test_numbers_are_known_in_several_notations(values, sql, numbers):
    found = numbers_of(values)
    assert found is not None
    assert (found.sql, found.values) == (sql, numbers)


@pytest.mark.parametrize("values", [["a", "b"], ["1.2.3"], [True], [], ["12 pieces"], [["1"]]])
def test_other_values_are_no_numbers(values):
    assert numbers_of(values) is None


@pytest.mark.parametrize(
    ("values", "sql"),
    [
        (["u1", "17"], "c"),
        ([17, 18], "cast(c as string)"),
        ([17.0, None, 18.0], "cast(cast(c as bigint) as string)"),  # whole numbers that pandas made floats
        (["17.0", "18.0"], "regexp_replace(c, '[.]0$', '')"),
    ],
)
def test_ids_are_text_without_fractions(values, sql):
    column = Column("c", "c", values)
    assert column.is_id
    assert column.id_sql == sql


def test_ids_of_two_files_are_compared_as_text():
    assert Column("a", "a", [17.0, None]).distinct == Column("b", "b", [" 17 "]).distinct == {"17"}


@pytest.mark.parametrize("values", [["2026-03-01"], [1.5, 2.0], [True], [["a"]], []])
def test_instants_fractions_and_lists_are_no_ids(values):
    assert not Column("c", "c", values).is_id


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("view", "visit"),
        ("PageView", "visit"),
        ("product_viewed", "visit"),
        ("add_to_cart", "visit"),
        ("addtocart", "visit"),
        ("order_cart", "visit"),
        ("transaction", "purchase"),
        ("Achat", "purchase"),
        ("Bestellung", "purchase"),
        ("ORDER_COMPLETED", "purchase"),
        ("remove_from_cart", "neither"),
        ("removefromcart", "neither"),
        ("order_returned", "neither"),
        ("product_added", "visit"),  # to a cart
        ("delivered", "purchase"),  # status of an order
        ("canceled", "neither"),
        ("impression", "neither"),
        ("3", None),
        ("foo", None),
    ],
)
def test_kinds_are_known_by_their_words(value, kind):
    assert kind_of(value) == kind


def test_carts_are_told_apart_from_other_visits():
    assert [is_cart(each) for each in ("add_to_cart", "addtocart", "view")] == [True, True, False]


def test_words_of_a_name_have_no_case_and_no_accents():
    assert words_of("CustomerID") == words_of("customer_id") == words_of("Customer Id") == ["customer", "id"]
    assert words_of("Prénom") == ["prenom"]


def test_names_that_are_no_words_or_of_sql_are_quoted():
    assert [quoted(each) for each in ("a_1", "order", "a b", "a`b", "{x}")] == [
        "a_1",
        "`order`",
        "`a b`",
        "`a``b`",
        "`{{x}}`",
    ]
