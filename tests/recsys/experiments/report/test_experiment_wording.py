import pytest

from recsys.experiments.report.wording import number, p_value


@pytest.mark.parametrize(("p", "written"), [(0.00099, "< 0.001"), (0.001, "0.001"), (0.5, "0.5"), (None, "–")])
def test_p_is_written_down_to_a_thousandth(p, written):
    assert p_value(p) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0, "0"), (-0.04567, "-0.0457"), (999.4, "999"), (999.6, "1,000"), (12345.6, "12,346")],
)
def test_figures_have_three_digits_and_all_before_the_point(value, written):
    assert number(value) == written
