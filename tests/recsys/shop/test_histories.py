from math import sqrt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from recsys.instants import to_micros
from recsys.shop.histories import Block, Histories, HistorySettings, blocks
from recsys.testing.shops import AS_OF, ShopData, instant, make_shop, purchase, random_shop, sale, visit

SALES = [sale("a"), sale("b"), sale("c"), sale("d")]
MICRO = 1 / 86_400_000_000


def histories(*events: dict, days: int = 90, max_events: int = 1000) -> Histories:
    return make_shop(SALES, list(events)).histories(HistorySettings(days=days, max_events=max_events))


def per_user(known: Histories) -> list[list[tuple[int, bool, int]]]:
    events = list(zip(known.sales.tolist(), known.purchases.tolist(), known.occurred_at.tolist(), strict=True))
    return [events[start:end] for start, end in zip(known.offsets[:-1], known.offsets[1:], strict=True)]


def as_batch(block: Block) -> pa.RecordBatch:
    lists = {
        name: pa.ListArray.from_arrays(pa.array(block.offsets, pa.int32()), pa.array(getattr(block, name)))
        for name in ("sales", "purchases", "occurred_at", "recorded_at")
    }
    return pa.RecordBatch.from_pydict({"user_id": block.user_ids, **lists})


def assert_same_block(left: Block, right: Block) -> None:
    assert left.user_ids.to_pylist() == right.user_ids.to_pylist()
    for name in ("offsets", "sales", "purchases", "occurred_at", "recorded_at"):
        assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


def test_only_events_strictly_before_as_of_are_known() -> None:
    known = histories(
        visit("u", "a", -MICRO),
        visit("u", "b", 0),  # at as_of
        visit("u", "c", 1),
        visit("u", "d", 0, recorded=-1),  # recorded by a clock that is ahead
    )
    assert known.sales.tolist() == [0]


def test_event_recorded_at_as_of_or_later_is_not_known() -> None:
    known = histories(
        visit("u", "a", -2, recorded=-MICRO),
        visit("u", "b", -2, recorded=0),
        visit("u", "c", -2, recorded=1),
    )
    assert known.sales.tolist() == [0]


def test_window_includes_its_start() -> None:
    known = histories(
        visit("u", "a", -7),
        visit("u", "b", -7 - MICRO),
        days=7,
    )
    assert known.sales.tolist() == [0]


def test_latest_events_before_as_of_are_kept() -> None:
    events = [visit("u", "a", -4), visit("u", "b", -3), visit("u", "c", -2), visit("v", "d", -9)]
    later = [visit("u", "d", 0.5), visit("u", "d", 0.6), visit("u", "d", -1, recorded=0.1), visit("v", "a", 2)]
    known = histories(*events, max_events=2)
    assert known.offsets.tolist() == [0, 2, 3]
    assert known.sales.tolist() == [1, 2, 3]  # u: b and c; v: d
    assert per_user(histories(*events, *later, max_events=2)) == per_user(known)


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 9))
def test_as_of_agrees_with_a_loop_over_events(seed: int, days: int, max_events: int) -> None:
    shop = random_shop(seed, n_users=7, n_sales=5, n_events=60)
    users, expected = shop.block.user_ids.to_pylist(), {}
    for user in users:
        events = sorted(
            (to_micros(row["occurred_at"]), shop.catalogue.position[row["sale_id"]], row["kind"] == "purchase")
            for row in shop.events.to_pylist()
            if row["user_id"] == user
            and to_micros(row["recorded_at"]) < AS_OF
            and instant(-days) <= to_micros(row["occurred_at"]) < AS_OF
        )
        expected[user] = [event[1:] for event in events[-max_events:]]
    known = shop.histories(HistorySettings(days=days, max_events=max_events))
    found = [[event[:2] for event in events] for events in per_user(known)]
    assert dict(zip(users, found, strict=True)) == expected


def test_decay_halves_after_each_half_life() -> None:
    known = histories(visit("u", "a", -6), visit("u", "b", -4), visit("u", "c", -2))
    assert_allclose(known.decay(2), [1 / 8, 1 / 4, 1 / 2], rtol=1e-6)
    assert known.decay(2).dtype == np.float32


def test_very_old_event_decays_to_0_and_not_to_nan() -> None:
    assert histories(visit("u", "a", -80)).decay(0.01).tolist() == [0]


def test_matrix_sums_the_weights_of_visits_and_purchases_of_a_sale() -> None:
    known = histories(
        visit("u", "b", -2),
        visit("u", "b", -1),
        purchase("u", "b", -1),
        visit("u", "d", -1),
        purchase("v", "a", -3),
    )
    expected = [
        [0, 1 / 4 + 1 / 2 + 5 * 1 / 2, 0, 1 / 2],
        [5 * 1 / 8, 0, 0, 0],
    ]
    weights = known.weights(half_life_days=1, purchase_weight=5)
    assert weights.dtype == np.float32
    assert_allclose(weights, [1 / 4, 1 / 2, 5 * 1 / 2, 1 / 2, 5 * 1 / 8], rtol=1e-6)
    assert_allclose(known.matrix(weights).toarray(), expected, rtol=1e-6)


def test_equal_weights_are_computed_once_and_read_only() -> None:
    known = histories(visit("u", "a", -2), purchase("u", "b", -1))
    weights = known.weights(1, 5)
    assert known.weights(1, 5) is weights
    assert_allclose(known.weights(2, 5), [1 / 2, 5 / sqrt(2)], rtol=1e-6)
    assert_allclose(known.weights(1, 3), [1 / 4, 3 / 2], rtol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        weights *= 2


def test_session_is_appended_to_a_users_events_as_if_at_as_of() -> None:
    known = histories(visit("u", "d", -3), purchase("u", "a", -1))
    session = known.with_session(np.array([1, 3], np.int32), np.array([True, False]))
    assert per_user(session) == [
        [(3, False, instant(-3)), (0, True, instant(-1)), (1, True, AS_OF), (3, False, AS_OF)],
    ]
    assert session.before_session().tolist() == [True, True, False, False]
    assert_allclose(session.weights(1, 5), [1 / 8, 5 / 2, 5, 1], rtol=1e-6)
    assert per_user(known) == [[(3, False, instant(-3)), (0, True, instant(-1))]]
    assert_array_equal(session.seen().toarray(), [[1, 1, 0, 1]])


def test_weights_with_a_session_differ_from_those_without() -> None:
    known = histories(visit("u", "d", -1))
    known.weights(1, 5)
    assert_allclose(known.with_session(np.array([0], np.int32), np.array([True])).weights(1, 5), [1 / 2, 5])


def test_event_of_the_last_microsecond_is_before_any_session() -> None:
    assert histories(visit("u", "a", -MICRO)).before_session().tolist() == [True]


def test_seen_counts_a_sale_once_and_leaves_the_events_as_they_are() -> None:
    known = histories(visit("u", "d", -3), visit("u", "a", -2), visit("u", "d", -1), visit("v", "c", -1))
    sales = known.sales.copy()
    seen = known.seen()
    assert_array_equal(seen.toarray(), [[1, 0, 0, 1], [0, 0, 1, 0]])
    assert seen.nnz == 3
    assert_array_equal(known.sales, sales)


def test_user_of_event_skips_users_without_events() -> None:
    shop = make_shop(SALES, [visit("b", "a", -2), visit("d", "a", -2), visit("d", "b", -1)], users=["a", "c", "e"])
    assert shop.histories().user_of_event().tolist() == [1, 3, 3]


def test_unknown_user_is_one_user_without_events() -> None:
    nobody = Histories.of_unknown_user(AS_OF, 4)
    assert len(nobody) == 1
    assert_array_equal(nobody.matrix(nobody.weights(1, 1)).toarray(), np.zeros((1, 4)))
    assert_array_equal(nobody.seen().toarray(), np.zeros((1, 4)))


@pytest.mark.parametrize(("start", "length"), [(0, 5), (2, 3), (4, 1), (1, 0)])
def test_slice_of_a_batch_is_the_block_of_its_users(start: int, length: int) -> None:
    block = random_shop(3, n_users=5).block
    sliced = as_batch(block).slice(start, length)
    assert_same_block(Block.from_batch(sliced, block.n_sales), block.take(np.arange(start, start + length)))


def test_slice_of_a_slice_is_the_block_of_its_users() -> None:
    block = random_shop(3, n_users=9).block
    sliced = as_batch(block).slice(2, 6).slice(1, 3)
    assert_same_block(Block.from_batch(sliced, block.n_sales), block.take(np.array([3, 4, 5])))


def test_take_keeps_order_and_repeats() -> None:
    shop = make_shop(SALES, [visit("u", "a", -3), visit("u", "b", -2), visit("w", "c", -1)], users=["v"])
    taken = shop.block.take(np.array([2, 0, 0, 1]))
    assert taken.user_ids.to_pylist() == ["w", "u", "u", "v"]
    assert taken.offsets.tolist() == [0, 1, 3, 5, 5]
    assert taken.sales.tolist() == [2, 0, 1, 0, 1]
    assert taken.occurred_at.tolist() == [instant(day) for day in (-1, -3, -2, -3, -2)]
    assert len(taken.take(np.empty(0, np.int64))) == 0


@given(st.integers(0, 1000), st.lists(st.integers(0, 6), max_size=9))
def test_history_of_a_user_does_not_depend_on_the_block(seed: int, rows: list[int]) -> None:
    block = random_shop(seed, n_users=7, n_sales=5, n_events=50).block
    settings = HistorySettings(days=30, max_events=4)
    whole = per_user(block.as_of(AS_OF, settings))
    assert per_user(block.take(np.array(rows, np.int64)).as_of(AS_OF, settings)) == [whole[row] for row in rows]


def test_purchases_between_are_half_open_and_leave_visits_out() -> None:
    shop = make_shop(
        SALES,
        [
            purchase("u", "a", -MICRO),
            purchase("u", "b", 0),
            visit("u", "c", 0.5),
            purchase("w", "c", 0.2),
            purchase("w", "a", 1 - MICRO),
            purchase("w", "d", 1),
        ],
        users=["a", "v"],  # without events: rows 0 and 2
    )
    users, events = shop.block.purchases_between(AS_OF, instant(1))
    assert users.tolist() == [1, 3, 3]
    assert shop.block.sales[events].tolist() == [1, 2, 0]


def test_batches_are_split_into_blocks_of_at_most_n_users() -> None:
    shop: ShopData = random_shop(5, n_users=8)
    batch = as_batch(shop.block)
    cut = list(blocks([batch.slice(0, 5), batch.slice(5, 0), batch.slice(5)], shop.block.n_sales, users=2))
    assert [len(block) for block in cut] == [2, 2, 1, 2, 1]
    assert [user for block in cut for user in block.user_ids.to_pylist()] == shop.block.user_ids.to_pylist()
    assert_array_equal(np.concatenate([block.sales for block in cut]), shop.block.sales)
