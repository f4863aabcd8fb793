import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recommendations.v1 import recommendations_pb2 as pb

from serving.answers import wire

FLOATS = st.floats(-500, 500, width=32)
LENGTHS = [0, 1, 126, 127, 128, 129, 4095, 4096, 16_383, 16_384, 70_000]


@st.composite
def ranked_sales(draw) -> pb.RankedSale:
    sale = pb.RankedSale(
        sale_id=draw(st.text(min_size=1, max_size=20)),
        title=draw(st.text(max_size=150)),
        reason=draw(st.text(max_size=5)),
        reason_text=draw(st.text(max_size=5)),
        image_uri=draw(st.text(max_size=5)),
        score=draw(st.none() | FLOATS),
        rule=draw(st.text(max_size=5)),
    )
    for feature in draw(st.lists(st.sampled_from(["", "own_visits", "é"]), max_size=2)):
        sale.contributions.add(feature=feature, log_odds=draw(FLOATS))
    return sale


def parts(sale: pb.RankedSale, is_log_odds: bool) -> wire.Parts:
    """Write a sale as the service does; the caller gave it its rank and its probability."""
    score = sale.score if sale.HasField("score") else None
    return (
        pb.RankedSale(sale_id=sale.sale_id, title=sale.title).SerializeToString(),
        wire.reason(sale.reason, sale.reason_text),
        wire.image(sale.image_uri),
        wire.place(sale.rank, score, is_log_odds),
        pb.RankedSale(rule=sale.rule, contributions=sale.contributions).SerializeToString(),
    )


@given(st.lists(ranked_sales(), max_size=4), st.booleans(), st.text(max_size=200))
def test_written_page_is_the_message_that_protobuf_makes(sales, is_log_odds, note):
    for rank, sale in enumerate(sales, start=1):
        sale.rank = rank
        if is_log_odds and sale.HasField("score"):
            sale.probability = 1 / (1 + math.exp(-sale.score))
    head, rest = pb.GetTopSalesResponse(policy="meta"), pb.GetTopSalesResponse(notes=[note], uses_session=True)
    expected = pb.GetTopSalesResponse(policy="meta", sales=sales, notes=[note], uses_session=True)
    written = wire.response(
        head.SerializeToString(), [parts(sale, is_log_odds) for sale in sales], rest.SerializeToString()
    )
    assert pb.GetTopSalesResponse.FromString(written) == expected
    batch = pb.BatchGetTopSalesResponse.FromString(wire.batch([written, b"", written]))
    assert list(batch.responses) == [expected, pb.GetTopSalesResponse(), expected]


@pytest.mark.parametrize("length", LENGTHS)
def test_length_of_a_sale_may_take_any_number_of_bytes(length):
    title = pb.RankedSale(title="é" * (length // 2) + "x" * (length % 2))
    written = wire.response(b"", [(title.SerializeToString(), b"", b"", b"", b"")] * 2, b"")
    assert list(pb.GetTopSalesResponse.FromString(written).sales) == [title, title]


@pytest.mark.parametrize("length", LENGTHS)
def test_length_of_a_page_may_take_any_number_of_bytes(length):
    page = pb.GetTopSalesResponse(shortfall_reason="x" * length)
    written = wire.batch([page.SerializeToString()] * 3)
    assert list(pb.BatchGetTopSalesResponse.FromString(written).responses) == [page] * 3


@given(st.integers(1, 100), FLOATS)
def test_place_holds_rank_score_and_the_probability_of_log_odds(rank, score):
    found = pb.RankedSale.FromString(wire.place(rank, score, True))
    assert (found.rank, found.score) == (rank, score)
    assert found.probability == pytest.approx(1 / (1 + math.exp(-score)), rel=1e-6)
    other = pb.RankedSale.FromString(wire.place(rank, score, False))
    assert other == pb.RankedSale(rank=rank, score=score)
    assert pb.RankedSale.FromString(wire.place(rank, None, True)) == pb.RankedSale(rank=rank)


def test_floats_are_little_endian_wherever_the_service_runs():
    assert wire.place(1, 1.5, False)[-4:] == struct.pack("<f", 1.5)


def test_hundred_sales_are_ranked_without_gaps():
    written = wire.response(b"", [(b"", b"", b"", wire.place(rank, None, False), b"") for rank in range(1, 101)], b"")
    assert [sale.rank for sale in pb.GetTopSalesResponse.FromString(written).sales] == list(range(1, 101))
