"""Hypothesis strategies of requests, valid and invalid."""

from hypothesis import strategies as st
from recommendations.v1 import recommendations_pb2 as pb

TEXTS = st.text(max_size=8) | st.sampled_from(["", "é" * 128 + "x", "x" * 300, "a\x00b", "\n", "\ud7ff"])
REQUESTS = st.builds(
    pb.GetTopSalesRequest,
    user_id=TEXTS,
    n=st.integers(-3, 103) | st.integers(-(2**31), 2**31 - 1),
    policy=TEXTS,
    session_sale_ids=st.lists(TEXTS, max_size=5) | st.just(["x"] * 101),
    attributes=st.dictionaries(TEXTS, TEXTS, max_size=5),
    surface=TEXTS,
    allowed_sale_ids=st.lists(TEXTS, max_size=5) | st.just(["x"] * 1001),
    denied_sale_ids=st.lists(TEXTS, max_size=5),
    explain=st.booleans(),
    request_id=TEXTS,
    filters=st.lists(
        st.builds(pb.AttributeFilter, attribute=TEXTS, values=st.lists(TEXTS, max_size=3), exclude=st.booleans()),
        max_size=2,
    ),
)

EVENTS = st.builds(
    pb.Event,
    user_id=TEXTS,
    sale_id=TEXTS,
    kind=st.integers(-1, 3),
    occur_time=st.none()
    | st.fixed_dictionaries({"seconds": st.integers(-(2**63), 2**63 - 1), "nanos": st.integers(-(2**31), 2**31 - 1)}),
    attribution_token=TEXTS,
    event_id=TEXTS,
    revenue=st.none() | st.floats(),
)
