import pytest

from recsys.reports.wording import number, percent


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
