import pytest

from recsys.wording import plural


@pytest.mark.parametrize(("count", "expected"), [(0, "0 days"), (1, "1 day"), (2, "2 days"), (2_000, "2,000 days")])
def test_noun_agrees_with_its_count(count, expected):
    assert plural(count, "day") == expected
