import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import StoreError
from serving.stores.base import WithdrawnSale
from serving.stores.withdrawals import KnownSales, after, joined, shown_again

DECISIONS = st.dictionaries(
    st.sampled_from("abc"),
    st.builds(
        WithdrawnSale,
        sale_id=st.just(""),
        closed=st.booleans(),
        since=st.integers(0, 3),
        until=st.sampled_from([None, 0, 9]),
        comment=st.sampled_from(["", "x"]),
    ),
).map(lambda found: {sale_id: sale.model_copy(update={"sale_id": sale_id}) for sale_id, sale in found.items()})


def decision(closed: bool, since: int, sale_id: str = "a", **others: object) -> WithdrawnSale:
    return WithdrawnSale(sale_id=sale_id, closed=closed, since=since, **others)


@given(DECISIONS, DECISIONS, DECISIONS)
def test_decisions_have_the_same_result_in_any_order_and_any_number_of_times(one, two, three):
    assert joined(one, two) == joined(two, one)
    assert joined(joined(one, two), three) == joined(one, joined(two, three))
    assert joined(one, one) == one


@given(DECISIONS, DECISIONS)
def test_nothing_that_was_closed_is_open_after_any_join(one, two):
    closed = {sale_id for each in (one, two) for sale_id, sale in each.items() if sale.closed}
    assert {sale_id for sale_id, sale in joined(one, two).items() if sale.closed} == closed


def test_closing_is_final_and_otherwise_the_new_decision_is_the_later_one():
    hidden, closed = decision(False, 5), decision(True, 4)
    assert after(None, hidden) == hidden
    assert after(hidden, closed) == decision(True, 6)  # by a clock that is late
    assert after(closed, hidden) == closed
    shown = after(hidden, shown_again("a", 2))
    assert joined({"a": shown}, {"a": hidden}) == {"a": shown}
    assert not shown.is_withdrawn(2)
    assert not shown.is_withdrawn(0)


def test_what_a_store_lost_is_named_and_stays_known():
    known = KnownSales()
    a, b = decision(True, 1, "a"), decision(False, 1, "b")
    assert known.learn({"a": a, "b": b}, ()) == {}
    version = known.version
    assert known.learn({"b": b}, ()) == {"a": a}
    assert (known.withdrawn, known.version) == ({"a": a, "b": b}, version)
    shown = shown_again("b", 2)
    assert known.learn({"a": a, "b": shown}, ()) == {}
    assert known.version == version + 1


def test_sale_whose_record_cannot_be_read_is_closed_until_it_can():
    known = KnownSales()
    hidden, closed = decision(False, 1, "b"), decision(True, 1, "c")
    known.learn({"b": hidden, "c": closed}, ())
    assert known.learn({}, {"a", "b", "c"}) == {"c": closed}  # a closing is written in place of what cannot be read
    assert {sale_id for sale_id, sale in known.withdrawn.items() if sale.closed} == {"a", "b", "c"}
    with pytest.raises(StoreError, match=r"here holds records that cannot be read, of 'a', 'b', 'c': these sales stay"):
        known.check_readable("here")
    assert known.learn({"b": hidden, "c": closed}, ()) == {}
    assert known.withdrawn == {"b": hidden, "c": closed}
    known.check_readable("here")
