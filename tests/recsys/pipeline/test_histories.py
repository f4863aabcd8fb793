import pytest

from recsys.pipeline.histories import user_histories
from recsys.testing.shops import instant, make_shop, purchase, random_shop, sale, visit


@pytest.fixture
def rows(spark):
    """Gather the events of a shop; return the row of each user."""

    def gather(data, events=None) -> dict[str, dict]:
        frame = spark.createDataFrame(data.events) if events is None else events
        return {row["user_id"]: row.asDict() for row in user_histories(frame, data.catalogue).collect()}

    return gather


def test_events_of_a_user_are_in_order_of_time_sale_and_kind(rows):
    data = make_shop(
        [sale("b"), sale("a"), sale("c")],
        [
            visit("u", "c", -1),
            purchase("u", "a", -2),
            visit("u", "b", -2, recorded=-0.5),
            visit("u", "a", -2),  # at the same instant as the purchase: before it
            visit("v", "c", -3),
        ],
    )
    found = rows(data)
    assert found["u"] == {
        "user_id": "u",
        "sales": [0, 0, 1, 2],  # positions in ascending order of sale_id
        "purchases": [False, True, False, False],
        "occurred_at": [instant(-2), instant(-2), instant(-2), instant(-1)],
        "recorded_at": [instant(-2), instant(-2), instant(-0.5), instant(-1)],
    }
    assert found["v"]["sales"] == [2]


def test_same_events_in_another_order_give_the_same_rows(spark, rows):
    data = random_shop(4)
    events = spark.createDataFrame(data.events)
    assert rows(data, events.orderBy("sale_id", "user_id").repartition(5)) == rows(data)


def test_histories_equal_those_gathered_in_plain_python(rows):
    data = random_shop(5)
    found = rows(data)
    ids, lengths = data.block.user_ids.to_pylist(), data.block.offsets[1:] - data.block.offsets[:-1]
    assert {user: len(row["sales"]) for user, row in found.items()} == {
        user: length for user, length in zip(ids, lengths, strict=True) if length
    }
    for number, user in enumerate(ids):
        start, end = data.block.offsets[number : number + 2]
        if start < end:
            assert found[user]["sales"] == data.block.sales[start:end].tolist()
            assert found[user]["purchases"] == data.block.purchases[start:end].tolist()
            assert found[user]["occurred_at"] == data.block.occurred_at[start:end].tolist()
            assert found[user]["recorded_at"] == data.block.recorded_at[start:end].tolist()


def test_event_of_a_sale_that_is_not_in_the_catalogue_is_left_out(spark, rows):
    data = make_shop([sale("a")], [visit("u", "a", -1)])
    others = make_shop([sale("a"), sale("b")], [visit("u", "a", -1), visit("u", "b", -1), visit("v", "b", -1)])
    assert rows(data, spark.createDataFrame(others.events)) == rows(data)
