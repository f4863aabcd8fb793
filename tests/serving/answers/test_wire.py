import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recommendations.v1 import recommendations_pb2 as pb

from serving.answers import wire

FLOATS = st.floats(-500, 500, width=32)
LENGTHS = [0, 1, 126, 127, 128, 129, 4095, 4096, 16_383, 16_384, 70_000]
"""Lengths around those that need another byte, or another branch of the code."""

SALES = [
    pb.RankedSale(sale_id="s1", title="Alps"),
    pb.RankedSale(sale_id="é", title="é" * 80, price=0.0),
    pb.RankedSale(sale_id="s3", title="x" * 5_000),
]
IMAGES = [[pb.RankedSale(image_uri="a0.jpg"), pb.RankedSale(image_uri="a1.jpg")], [pb.RankedSale()], [pb.RankedSale()]]
REASONS = [
    pb.RankedSale(reason="popularity", reason_text="Popular right now"),
    pb.RankedSale(reason="content_images", reason_text="Because you looked at 海滩 🏖"),
]
WRITER = wire.SaleWriter(
    [sale.SerializeToString() for sale in SALES],
    [[image.SerializeToString() for image in images] for images in IMAGES],
    [wire.reason(reason.reason, reason.reason_text) for reason in REASONS],
)
PICKS = st.tuples(st.integers(0, 2), st.none() | FLOATS, st.integers(0, 1), st.just(0))
EXTRAS = [
    pb.RankedSale(),
    pb.RankedSale(rule="pinned"),
    pb.RankedSale(contributions=[pb.Contribution(feature="own_visits", log_odds=-0.5)] * 40),
]


def message(rank: int, pick: tuple, is_log_odds: bool, extra: pb.RankedSale) -> pb.RankedSale:
    """Make the sale at a position of a page by protobuf."""
    sale, score, reason, cover = pick
    expected = pb.RankedSale(rank=rank, score=score)
    for part in (SALES[sale], IMAGES[sale][cover], REASONS[reason], extra):
        expected.MergeFrom(part)
    if is_log_odds and score is not None:
        expected.probability = 1 / (1 + math.exp(-score))
    return expected


@given(st.lists(PICKS, max_size=100), st.booleans(), st.data())
def test_written_sales_equal_the_messages_of_protobuf(picks, is_log_odds, data):
    extras = data.draw(st.lists(st.sampled_from(EXTRAS), min_size=len(picks), max_size=len(picks)) | st.just([]))
    parts = WRITER.written(picks, is_log_odds, [extra.SerializeToString() for extra in extras])
    found = pb.GetTopSalesResponse.FromString(wire.response(parts))
    positions = enumerate(zip(picks, extras or [EXTRAS[0]] * len(picks), strict=True), 1)
    assert list(found.sales) == [message(rank, pick, is_log_odds, extra) for rank, (pick, extra) in positions]


@given(
    st.sampled_from(pb.FallbackLevel.values()),
    st.text("abcXYZ019-_", min_size=1, max_size=64),
    st.integers(0, 4_000_000_000_000_000) | st.sampled_from([0, 999_999, 1_000_000, 127_000_000, 128_000_001]),
)
def test_written_end_equals_the_message_of_protobuf(level, request_id, now):
    expected = pb.GetTopSalesResponse(fallback_level=level, request_id=request_id)
    expected.answer_time.FromMicroseconds(now)
    assert pb.GetTopSalesResponse.FromString(wire.end(level, request_id, now)) == expected


def test_photo_of_each_position_can_be_written():
    parts = WRITER.written([(0, 0.5, 0, 1), (1, 0.5, 0, 0), (0, 0.5, 0, 0)], False)
    found = pb.GetTopSalesResponse.FromString(wire.response(parts))
    assert [sale.image_uri for sale in found.sales] == ["a1.jpg", "", "a0.jpg"]


@pytest.mark.parametrize("pick", [(3, 0.5, 0, 0), (0, 0.5, 2, 0), (0, 0.5, 0, 2), (1, None, 0, 1)])
def test_position_out_of_range_is_an_error(pick):
    with pytest.raises(IndexError):
        WRITER.written([(0, 0.5, 0, 0), pick], False)


def test_score_that_is_not_a_log_odds_is_an_error():
    with pytest.raises(ArithmeticError):
        WRITER.written([(0, -1e9, 0, 0)], True)
    WRITER.written([(0, -1e9, 0, 0)], False)


@pytest.mark.parametrize("length", LENGTHS)
def test_length_of_a_sale_may_take_any_number_of_bytes(length):
    title = pb.RankedSale(title="é" * (length // 2) + "x" * (length % 2))
    writer = wire.SaleWriter([title.SerializeToString()], [[b""]], [b""])
    found = pb.GetTopSalesResponse.FromString(wire.response(writer.written([(0, None, 0, 0)] * 2, True)))
    assert [(sale.rank, sale.title) for sale in found.sales] == [(1, title.title), (2, title.title)]


@pytest.mark.parametrize("length", LENGTHS)
def test_length_of_a_page_may_take_any_number_of_bytes(length):
    page = pb.GetTopSalesResponse(shortfall_reason="x" * length)
    written = wire.batch([page.SerializeToString(), b"", page.SerializeToString()])
    assert list(pb.BatchGetTopSalesResponse.FromString(written).responses) == [page, pb.GetTopSalesResponse(), page]


def test_hundred_sales_are_ranked_without_gaps():
    parts = WRITER.written([(0, None, 0, 0)] * 100, True)
    found = pb.GetTopSalesResponse.FromString(wire.response(parts))
    assert [sale.rank for sale in found.sales] == list(range(1, 101))


def test_parts_of_sales_are_encoded_as_protobuf_encodes_them():
    assert pb.RankedSale.FromString(wire.image("ü b.jpg")) == pb.RankedSale(image_uri="ü b.jpg")
    assert pb.RankedSale.FromString(wire.reason("open", "Open now")) == pb.RankedSale(
        reason="open", reason_text="Open now"
    )
