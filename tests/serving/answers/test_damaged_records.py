"""Records that are damaged after the checksums were compared: a page is answered all the same."""

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recommendations.v1 import recommendations_pb2 as pb

from recsys.errors import DamagedRecordError, SnapshotError
from recsys.instants import to_micros
from recsys.snapshot.format import Snapshot
from recsys.snapshot.users import EVENTS, ranking_type
from serving.answers.page_writing import PageWriter
from serving.answers.pages import OtherSide, PageRequest, Visit
from serving.answers.top_sales import TopSales
from tests.helpers.asking import answered, shown

POPULAR = pb.FALLBACK_LEVEL_POPULAR
NOISY = pytest.mark.filterwarnings("ignore:.* encountered in .*:RuntimeWarning")
"""For scores that are NaN: numpy warns of them once in the service's log."""


class Failing:
    """A user whose record cannot be read."""

    def __init__(self, error: Exception):
        self._error = error

    def places(self, _: str) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (DamagedRecordError("CRC-32"), "This user's record in the snapshot is damaged."),
        (IndexError("index 9 is out of bounds"), "This user's ranking failed: the service's log has the stack trace."),
        (SnapshotError("a file is gone"), "This user's ranking failed: the service's log has the stack trace."),
    ],
)
def test_damaged_record_and_bug_lead_to_popular_sales_with_the_reason(shop, make_sale, monkeypatch, error, why):
    top_sales = shop.load([make_sale("a"), make_sale("b")], {"ann": [(0, 0.5, 0)]})
    monkeypatch.setattr(top_sales.snapshot.users, "find", lambda _: Failing(error))
    answer = top_sales.answer(PageRequest("ann", "meta", 2), shop.clock(), "r-1")
    response = pb.GetTopSalesResponse.FromString(answer.written)
    assert (shown(response), response.fallback_level) == (["b", "a"], POPULAR)
    assert response.fallback_reason == f"{why} Popular sales are shown."
    assert answer.failure is error


def test_bug_that_breaks_the_popular_page_too_is_raised(shop, make_sale, monkeypatch):
    top_sales = shop.load([make_sale("a")], {"ann": [(0, 0.5, 0)]})
    monkeypatch.setattr(PageWriter, "write", lambda *_: [][0])
    with pytest.raises(IndexError):
        top_sales.answer(PageRequest("ann", "meta"), shop.clock(), "r-1")


def test_record_that_is_damaged_for_a_compared_variant_is_damage(shop, make_sale):
    sales, ranking = [make_sale("a"), make_sale("b")], {"ann": [(0, 0.5, 0), (1, 0.25, 0)]}
    top_sales = shop.load(sales, ranking, policies=("als", "meta"))
    damage(top_sales.snapshot, "sales", 9)
    request = PageRequest("ann", "als", 2, other_sides=[OtherSide("meta", True)])
    answer = top_sales.answer(request, shop.clock(), "r-1")
    assert isinstance(answer.failure, DamagedRecordError)
    assert (answer.page.policy, answer.page.overlap_at_10) == ("popularity", None)
    whole = top_sales.answer(request._replace(other_sides=()), shop.clock(), "r-1")
    assert (whole.page.policy, whole.failure) == ("als", None)


@NOISY
@pytest.mark.parametrize(
    ("field", "value"),
    [("sales", 9), ("reasons", 77), ("covers", 3), ("low", math.inf), ("high", math.nan), ("low", -1e9)],
)
def test_value_out_of_range_in_a_record_is_damage(shop, make_sale, field, value):
    top_sales = shop.load([make_sale("a"), make_sale("b")], {"ann": [(0, 0.5, 0), (1, 0.25, 0)]})
    damage(top_sales.snapshot, field, value)
    response = answered(top_sales, shop.clock(), "ann", n=2)
    assert (shown(response), response.fallback_level) == (["b", "a"], POPULAR)
    assert "record in the snapshot is damaged" in response.fallback_reason


def test_record_that_names_a_sale_twice_is_damage(shop, make_sale):
    top_sales = shop.load([make_sale("a"), make_sale("b")], {"ann": [(0, 0.5, 0), (1, 0.25, 0)]})
    damage(top_sales.snapshot, "sales", 1)
    assert shown(answered(top_sales, shop.clock(), "ann", n=2)) == ["b", "a"]
    assert answered(top_sales, shop.clock(), "ann", n=2).fallback_level == POPULAR


@pytest.mark.parametrize("sale", [40, 70_000, 1 << 31, (1 << 32) - 1])
def test_event_of_a_sale_that_does_not_exist_is_damage(tmp_path, ranked_shop, sale):
    top_sales = TopSales.of(Snapshot.open(tmp_path / ranked_shop.write(tmp_path)))
    events = np.memmap(top_sales.snapshot.path / "history_events.bin", EVENTS, "r+")
    events["sales"] = sale
    user_id, session = ranked_shop.users[0], [Visit(ranked_shop.sales[1].sale_id)]
    response = answered(top_sales, top_sales.as_of, user_id, session=session)
    assert (response.fallback_level, response.uses_session) == (POPULAR, False)
    assert "record in the snapshot is damaged" in response.fallback_reason
    assert answered(top_sales, top_sales.as_of, user_id).fallback_level == pb.FALLBACK_LEVEL_NONE


def damage(snapshot: Snapshot, field: str, value: float) -> None:
    """Change a field of the first user's record, that of the best sale, after the checksums were compared."""
    kind, offset = ranking_type(len(snapshot.sales), snapshot.k).fields[field][:2]
    with (snapshot.path / "ranking_meta.bin").open("r+b") as file:
        file.seek(offset)
        file.write(kind.base.type(value).tobytes())


@NOISY
@settings(max_examples=150)
@given(st.data())
def test_any_damage_to_the_files_of_users_leaves_a_complete_page(damaged, data):
    top_sales, night, now = damaged
    names = sorted(file.name for file in top_sales.snapshot.path.glob("*.bin"))
    file = top_sales.snapshot.path / data.draw(st.sampled_from(names))
    before = file.read_bytes()
    offsets = st.integers(0, len(before) - 1)
    flips = data.draw(st.dictionaries(offsets, st.integers(1, 255), min_size=1, max_size=40)).items()
    after = bytearray(before)
    for position, mask in flips:
        after[position] ^= mask
    overwrite(file, after)
    try:
        for user_id in night.users:
            for asked in ({}, {"session": [Visit(night.sales[1].sale_id)]}, {"explain": True}):
                response = answered(top_sales, now, user_id, **asked)
                assert "stack trace" not in response.fallback_reason  # damage is never reported as a bug
                found = shown(response)
                assert len(set(found)) == len(found) == min(10, sum(top_sales.open_sales(now).is_open))
    finally:
        overwrite(file, before)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory, ranked_shop) -> Iterable:
    """A snapshot that is opened first and damaged afterwards."""
    root = tmp_path_factory.mktemp("damaged")
    snapshot = Snapshot.open(root / ranked_shop.write(root))
    return TopSales.of(snapshot), ranked_shop, to_micros(snapshot.as_of)


def overwrite(file, content: bytes) -> None:
    with file.open("r+b") as stream:
        stream.write(content)
