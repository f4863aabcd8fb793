import pytest

from recsys.reports.experiment.wording import p_value


@pytest.mark.parametrize(("p", "written"), [(0.00099, "< 0.001"), (0.001, "0.001"), (0.5, "0.5"), (None, "–")])
def test_p_is_written_down_to_a_thousandth(p, written):
    assert p_value(p) == written
