import pytest

from recsys.wording import amount, did_you_mean, nearest, plural, visible


@pytest.mark.parametrize(
    ("count", "written"),
    [
        (0, "0 days"),
        (1, "1 day"),
        (1.0, "1 day"),
        (2, "2 days"),
        (0.5, "0.5 days"),
        (12_345_678, "12,345,678 days"),
    ],
)
def test_noun_is_plural_unless_the_count_is_one_and_thousands_are_separated(count, written):
    assert plural(count, "day") == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(3366.2302688913624, "3,366.23"), (1_234_567.0, "1,234,567"), (0.0, "0"), (49.9, "49.90"), (0.00125, "0.00125")],
)
def test_amount_has_cents_where_it_has_any(value, written):
    assert amount(value) == written


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("categroy", "category"),  # two letters swapped: 7 of 8 in order
        ("Country", "country"),
        ("contry", "country"),
        ("chanel", "channel"),
        ("zzz", None),
        ("", None),
    ],
)
def test_mistyped_name_has_a_nearest_known_name_regardless_of_case_and_a_strange_one_has_none(name, found):
    known = ["category", "country", "channel"]
    assert nearest(name, known) == found
    assert did_you_mean(name, known) == (f"; did you mean '{found}'?" if found else "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zürich – 3 €", "Zürich – 3 €"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),  # clears the screen
        ("a\x9b2Jb", r"a\x9b2Jb"),  # the same in one character
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("a\u2028b\u0085c", r"a\u2028b\x85c"),  # ends of lines for some programs
        ("\u202eevil", r"\u202eevil"),  # written from right to left
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),  # invisible
        ("\ud800", r"\ud800"),  # cannot be encoded
        ("می\u200cخواهم", "می\u200cخواهم"),  # spelled with a non-joiner
        ("東京\u3000旅行 5\u00a0%", "東京\u3000旅行 5\u00a0%"),  # blanks
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_written_out(text, shown):
    assert visible(text) == shown
