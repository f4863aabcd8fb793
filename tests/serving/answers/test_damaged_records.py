"""Memory that decays after the checksums were compared: a page comes all the same."""

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recommendations.v1 import recommendations_pb2 as pb

from recsys.errors import SnapshotError
from recsys.instants import to_micros
from recsys.snapshot.format import Snapshot
from recsys.snapshot.users import EVENTS, ranking_type
from serving.answers.pages import Visit
from serving.answers.top_sales import TopSales
from tests.helpers.asking import answered, shown

POPULAR = pb.FALLBACK_LEVEL_POPULAR
NOISY = pytest.mark.filterwarnings("ignore:.* encountered in .*:RuntimeWarning")
"""For scores that are no numbers: numpy says once in the service's log that it met one."""


class Damaged:
    """A user whose record cannot be read."""

    def __init__(self, error: Exception):
        self._error = error

    def places(self, _: str) -> None:
        raise self._error


@pytest.mark.parametrize("error", [IndexError("index 9 is out of bounds"), SnapshotError("CRC-32")])
def test_damaged_record_is_a_fallback_that_says_so(shop, make_sale, monkeypatch, error):
    top_sales = shop.load([make_sale("a"), make_sale("b")], {"ann": [(0, 0.5, 0)]})
    monkeypatch.setattr(top_sales.snapshot.users, "find", lambda _: Damaged(error))
    response = answered(top_sales, shop.clock(), "ann", n=2)
    assert (shown(response), response.fallback_level) == (["b", "a"], POPULAR)
    assert response.fallback_reason == "This user's record in the snapshot is damaged. Popular sales are shown."


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
def test_event_of_a_sale_that_there_is_not_is_damage(tmp_path, ranked_shop, sale):
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
def test_any_damage_to_the_files_of_users_leaves_a_whole_page(damaged, data):
    top_sales, night, now = damaged
    names = sorted(file.name for file in top_sales.snapshot.path.glob("*.bin"))
    file = top_sales.snapshot.path / data.draw(st.sampled_from(names))
    before = file.read_bytes()
    places = st.integers(0, len(before) - 1)
    flips = data.draw(st.dictionaries(places, st.integers(1, 255), min_size=1, max_size=40)).items()
    after = bytearray(before)
    for position, mask in flips:
        after[position] ^= mask
    overwrite(file, after)
    try:
        for user_id in night.users:
            for asked in ({}, {"session": [Visit(night.sales[1].sale_id)]}, {"explain": True}):
                found = shown(answered(top_sales, now, user_id, **asked))
                assert len(set(found)) == len(found) == min(10, sum(top_sales.open_sales(now).is_open))
    finally:
        overwrite(file, before)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory, ranked_shop) -> Iterable:
    """A snapshot that is opened, to be damaged afterwards."""
    root = tmp_path_factory.mktemp("damaged")
    snapshot = Snapshot.open(root / ranked_shop.write(root))
    return TopSales.of(snapshot), ranked_shop, to_micros(snapshot.as_of)


def overwrite(file, content: bytes) -> None:
    with file.open("r+b") as stream:
        stream.write(content)
