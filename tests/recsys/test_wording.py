import pytest

from recsys.wording import plural


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
