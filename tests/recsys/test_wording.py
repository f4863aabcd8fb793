import pytest

from recsys.wording import did_you_mean, nearest, plural


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
