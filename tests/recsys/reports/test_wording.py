import pytest

from recsys.reports.wording import number, percent, plural


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0, "0"), (-0.04567, "-0.0457"), (999.4, "999"), (999.6, "1,000"), (12345.6, "12,346")],
)
def test_numbers_have_three_significant_digits_or_all_before_the_decimal_point(value, written):
    assert number(value) == written


def test_shares_are_percentages_with_a_dash_for_the_unknown():
    assert percent(0.05123) == "5.12%"
    assert percent(-0.5, "+") == "-50%"
    assert percent(0.5, "+") == "+50%"
    assert percent(None) == number(None) == "–"


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
