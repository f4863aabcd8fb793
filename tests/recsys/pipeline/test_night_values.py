from datetime import UTC, datetime, timedelta

import pytest

from recsys.errors import StoreError
from recsys.instants import to_micros
from recsys.pipeline.night_values import NightValues, read_night_values, write_night_values
from recsys.storage.places import files_in, put

FIRST = datetime(2026, 2, 27, tzinfo=UTC)


def night(day: int, **changes: object) -> NightValues:
    values = {"version": "1", "rejected_share": 0.0, "sales_covered": 1.0, "users": 9, "purchases": 3, "pages": 2}
    return NightValues(as_of=FIRST + timedelta(days=day), **{**values, **changes})


def test_values_are_read_back_equal_and_in_order_of_nights(folder):
    third, first = night(2, drift={"a": -0.5}, ndcg=0.25), night(0, problems=("too few",))
    for each in (third, first, night(9)):
        write_night_values(each, folder)
    assert read_night_values(folder) == [first, third, night(9)]
    assert {path.name for path in files_in(folder / "night_checks")} == {
        f"202603{day}T000000Z.json" for day in ("01", "08")
    } | {"20260227T000000Z.json"}


def test_only_nights_before_an_instant_are_read(folder):
    for day in (0, 1, 2):
        write_night_values(night(day), folder)
    assert read_night_values(folder, before=to_micros(FIRST + timedelta(days=1))) == [night(0)]


def test_repeated_night_replaces_its_values(folder):
    write_night_values(night(0, users=1), folder)
    write_night_values(night(0, users=2), folder)
    assert [each.users for each in read_night_values(folder)] == [2]


def test_shop_without_a_night_has_none(folder):
    assert read_night_values(folder / "absent") == []


@pytest.mark.parametrize("text", ["", "{", "{}", '{"as_of": "2026-03-01"}'])
def test_damaged_file_is_named(folder, text):
    put(folder / "night_checks" / "20260301T000000Z.json", text)
    with pytest.raises(StoreError, match=r"20260301T000000Z.json does not hold the values of a night .*: remove it"):
        read_night_values(folder)


def test_worst_drift_is_the_largest_in_absolute_value():
    assert night(0, drift={"a": 0.5, "b": -0.7, "c": 0.1}).worst_drift == ("b", -0.7)
    assert night(0).worst_drift == ("", 0.0)
